"""The form of a target's files, as far as speed depends on it: what a latency table says that it holds for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecr.core.errors import NotConfigured, RequestError
from edgecr.data.base import Preprocessing
from edgecr.data.sets import MemorySet
from edgecr.data.views import ProofData
from edgecr.exporters.base import Target, exporters, load_target
from edgecr.exporters.graph_target import GraphTarget, Rounding
from edgecr.exporters.onnx.declaration import PLAIN
from edgecr.exporters.target import BINARY
from edgecr.latency import FLOATS
from edgecr.runners.device import Device

if TYPE_CHECKING:
    from edgecr.subject import Subject

IMAGES = 2
"""Images of noise that a whole model is rounded with for measuring; its speed does not depend on values."""


def load_measurable(name: str) -> GraphTarget:
    """A target by name or path, if layers can be measured in its form and the form can be made here."""
    target = load_target(name)
    if not isinstance(target, GraphTarget):
        raise RequestError(
            f"No latency table can be built for export target {target.name!r}: single layers are written as ONNX and "
            f"OpenVINO files only, and its format is {target.format}. Plan for another target."
        )
    if target.precision == BINARY:
        raise RequestError(
            f"No latency table can be built for export target {target.name!r}: what its layers cost depends on where "
            "binary activations stand. Plan for another target, before `binarise`."
        )
    exporters.get(target.format)().check(target)
    return target


def runtime_of(device: Device, target: Target, asked: str | None = None) -> str:
    """The runtime that files of a target are measured in: the device's first one, or the one that is asked for."""
    if asked is None:
        return device.runtime_name(*target.runtimes)
    if asked not in target.runtimes:
        raise NotConfigured(
            f"Files of export target {target.name!r} run in {' or '.join(target.runtimes)}, not in {asked!r}."
        )
    return device.runtime_name(asked)


def form_of(target: GraphTarget) -> str:
    """The form in words that suit a file's name: format, precision and the settings of rounding that decide speed.

    All float32 files are of one form: runtimes make the same of OpenVINO's own and of those in ONNX.
    """
    if target.precision == "fp32":
        return FLOATS
    rounding = target.quantise or Rounding()
    given = {name: value for name, value in rounding.plain().items() if name in rounding.decide_speed}
    return "-".join([target.format, target.precision, *(f"{name}={value}" for name, value in given.items())])


def write_model(subject: Subject, target: GraphTarget, folder: Path) -> tuple[Path, Sequence[str]]:
    """A whole model in the form of a target, for measuring only, and the files beside it; nothing is proven."""
    from edgecr.exporters.onnx.write import write  # loads torch

    if target.precision == "fp32":
        write(subject, PLAIN, _as_is(1, 1), folder / "model.onnx")
        return folder / "model.onnx", ()
    written = exporters.get(target.format)().write(subject, _only_measured(target), _noise(subject), folder)
    main = folder / written.main
    return main, [file.name for file in sorted(folder.iterdir()) if file != main]


def _only_measured(target: GraphTarget) -> GraphTarget:
    """The target without what images decide, and with the ends that float32 models are measured with."""
    rounding = target.quantise
    if rounding is not None:
        rounding = rounding.model_copy(update={"max_drop": None})
    values = target.model_dump(include={"name", "purpose", "format", "precision"})
    return type(target)(**values, quantise=rounding)


def _noise(subject: Subject) -> ProofData:
    """Images of noise in place of training images."""
    channels, height, width = subject.input_shape
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, height, width, channels), dtype=np.uint8)
    images = MemorySet(pixels, np.zeros(IMAGES, dtype=np.int64))
    return ProofData(("noise",), _as_is(height, width), "noise", images, images)


def _as_is(height: int, width: int) -> Preprocessing:
    return Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (height, width))
