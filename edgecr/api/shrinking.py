"""A trained model and images in, a faster file and its verdict out: no training, no labels needed.

Torch is imported inside of the functions: a mistake in the request is told before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from edgecr.api.runs import RUNS, AnyPath, compress, plain_values
from edgecr.core.errors import BudgetError, FileProblem, RequestError
from edgecr.core.names import as_name

if TYPE_CHECKING:
    from torch import nn

    from edgecr.api.images import Data, Pixels, Three
    from edgecr.core.progress import Monitor
    from edgecr.data.sets import MemorySet
    from edgecr.report.result import Result
    from edgecr.run import Run

RECIPE = "quick/shrink"
IMAGENET = 1000
"""Classes of the published weights."""
SLACK = 1.1
"""Factor on the asked latency within which the exported file must be, measured beside the baseline."""
LEAST = 0.001
"""The smallest fraction of a latency, and the smallest time in milliseconds, that may be asked for."""
FEWEST = 182
"""Photographs at which 128 are left for training, which plans by measured loss need."""


@dataclass(frozen=True)
class Shrunk:
    """The result of shrinking a model: the run with all the evidence, its report, and what came out."""

    run: Run
    report: Result
    _allow_code: bool = field(default=False, repr=False)

    @property
    def module(self) -> nn.Module:
        """The pruned and repaired model in evaluation mode, on the CPU; a new copy each time."""
        from edgecr.subject import Subject

        return Subject.load(self.run.subject("candidate"), allow_code=self._allow_code).module

    @property
    def verdict(self) -> str:
        """``SHIP``, ``DON'T SHIP`` or ``INCOMPLETE``."""
        return self.report.verdict.value

    @property
    def file(self) -> Path:
        """The exported file, beside its manifest."""
        from edgecr.exporters import Artifact
        from edgecr.stages.asked import Asked

        return Artifact.within(self.run.export(Asked.of(self.run).names[0]) / "candidate").path

    @property
    def page(self) -> Path:
        """The report for people."""
        return self.run.folder / "report.html"

    def __str__(self) -> str:
        return f"{self.verdict}; report: {self.page}"


def shrink(
    model: str | Mapping[str, Any] | nn.Module,
    images: Data | Pixels,
    *,
    latency: float | str = 0.5,
    weights: AnyPath | None = None,
    classes: int | None = None,
    size: int | Sequence[int] | None = None,
    mean: Three | str | None = None,
    std: Three | str | None = None,
    agreement: float = 0.9,
    devices: Sequence[str] = ("cpu",),
    runs: AnyPath = RUNS,
    threads: int = 0,
    fresh: bool = False,
    allow_code: bool = False,
    quiet: bool = False,
    monitor: Monitor | None = None,
) -> Shrunk:
    """Prunes a trained model for a latency by measured loss, repairs, exports and judges it, as ``edgecr shrink`` does.

    ``model`` is the name of an architecture, a recipe's ``model`` section, or a module in memory, which stays as it
    is; ``images`` a folder of images like those of its use, with or without class folders, a recipe's ``data``
    section, 8-bit pixels (N, H, W, 3), or these with labels. ``latency`` is a fraction of the model's own, or a time
    such as ``"3 ms"``. Without ``weights`` the published ones of torchvision or timm are fetched. ``mean`` and
    ``std`` say how pixels become the model's input: those of ImageNet when left out, but to be given with a module.
    The file ships when it chooses as the model does on at least the ``agreement`` of held-out images, and when its
    measured latency is within 1.1 times what was asked for (0.88 of the model's for 0.8). It takes about 182 images at
    least, since plans need 128 for training. ``fresh`` throws away what the run has and starts anew.
    """
    from edgecr.models import architecture

    budget = plain_values({"latency": latency}, "latency")
    limit, shown = _limit(budget["latency"]), _Images.of(images, size, mean, std)
    if isinstance(model, str | Mapping):
        section = _named(model, weights, classes)
    else:
        section = _given(model, shown, weights, classes)
    _refuse_unallowed(section, allow_code)
    declared = architecture(section)
    if not declared.starts_trained:
        raise RequestError(f"{declared.arch} is not trained: give the checkpoint of a trained model as weights.")
    shown.check_count()
    if declared.classes is None and shown.without_labels:
        raise RequestError("The images have no labels, so they do not tell the number of classes: give --classes.")
    data = shown.section(shown.size or declared.usual_side, declared.classes or 0)
    changes: dict[str, Any] = {
        "name": f"shrink-{as_name(Path(data.get('root', declared.arch)).resolve().name)}",
        "model": section,
        "data": data,
        "steps.0.prune.budget": budget,
        "gates": {"agreement": {"min": agreement}, "latency_p50": limit},
    }
    changes = plain_values(changes, "The options of edgecr.shrink()")
    try:
        found = compress(
            RECIPE,
            overrides=[f"{key}={json.dumps(value)}" for key, value in changes.items()],
            devices=devices,
            runs=runs,
            fresh=fresh,
            threads=threads,
            allow_code=allow_code,
            quiet=quiet,
            monitor=monitor,
        )
    except BudgetError as error:
        raise BudgetError(f"{error} Here that is a larger latency than {latency}.") from error
    return Shrunk(*found, allow_code)


@dataclass(frozen=True)
class _Images:
    """The images of a request, before they are a recipe's ``data`` section."""

    source: AnyPath | Mapping[str, Any] | None
    pixels: MemorySet | None
    size: int | list[int] | None
    """As stated, or as the images in memory have it."""
    scale: Mapping[str, Any]
    """The ``mean`` and ``std`` that were stated."""

    @classmethod
    def of(cls, images: Any, size: int | Sequence[int] | None, mean: Any, std: Any) -> Self:
        """The images as they were given."""
        from edgecr.data.scale import scaling

        channels = zip(("mean", "std"), scaling(mean, std))
        scale = {key: list(values) for key, values in channels if values is not None}
        size = size if size is None or isinstance(size, int) else list(size)
        if isinstance(images, str | os.PathLike | Mapping):
            stated = images.get("size") if isinstance(images, Mapping) else None
            if None not in (size, stated) and size != stated:
                raise RequestError(f"The images are said to be of the size {stated}, not {size}; leave size out.")
            return cls(images, None, size or stated, scale)

        from edgecr.api.images import pixels_of

        pixels = pixels_of(images)
        if size not in (None, list(pixels.size)) and (size, size) != pixels.size:
            raise RequestError(f"The images are of the size {pixels.size}, not {size}; leave size out.")
        return cls(None, pixels, list(pixels.size), scale)

    @property
    def folder(self) -> Path | None:
        """The folder that was named, if the images are one."""
        return Path(self.source).expanduser() if isinstance(self.source, str | os.PathLike) else None

    @property
    def in_a_folder(self) -> bool:
        """True for images that have no size and no scale of their own: those of a folder, however it was named."""
        return self.folder is not None or (isinstance(self.source, Mapping) and self.source.get("name") == "folder")

    @property
    def unscaled(self) -> bool:
        """True where nothing says how the pixels become a model's input."""
        stated = {*self.scale, *(self.source if isinstance(self.source, Mapping) else ())}
        return (self.in_a_folder or self.pixels is not None) and not {"mean", "std"} <= stated

    @property
    def without_labels(self) -> bool:
        """True for a folder without class folders."""
        from edgecr.data.folder import Folder

        return self.folder is not None and not Folder(name="folder", root=self.folder, size=1).has_labels()

    def check_count(self) -> None:
        """Refuses what is no folder, and so few images that no plan could be made, before anything is loaded."""
        folder = self.folder
        if folder is not None and not folder.is_dir():
            raise FileProblem(
                f"{folder} is a file, not a folder: give the folder that holds the images (--images)."
                if folder.exists()
                else f"The image folder {folder} does not exist (--images)."
            )
        count = len(self.pixels) if self.pixels is not None else None if folder is None else _undivided(folder)
        if count is not None and count < FEWEST:
            raise RequestError(
                f"There are {count} images, and about {FEWEST} are needed at least (128 of the 70 % that are for "
                "training): give more photographs like those of the model's use; they need no labels."
            )

    def section(self, side: int | list[int], classes: int) -> dict[str, Any]:
        """The ``data`` section of a recipe; of labelled images in memory the classes are numbers."""
        if self.pixels is not None:
            from edgecr.data.base import NO_LABEL
            from edgecr.data.given import GivenImages

            last = int(self.pixels.labels.max())
            names = [] if last == NO_LABEL else [str(number) for number in range(max(classes, last + 1))]
            return {"name": GivenImages.NAME, "content": GivenImages.keep(self.pixels), "classes": names, **self.scale}
        if isinstance(self.source, Mapping):
            return {**({"size": side} if self.in_a_folder else {}), **self.source, **self.scale}
        return {"name": "folder", "root": self.source, "size": side, **self.scale}


def _undivided(folder: Path) -> int | None:
    """The number of files in a folder and below it, hidden ones aside; None where it divides its images itself."""
    from edgecr.data.folder import split_folders

    if len(split_folders(folder)) > 1:
        return None
    return sum(not name.startswith(".") for _, _, names in os.walk(folder) for name in names)


def _refuse_unallowed(section: Mapping[str, Any], allow_code: bool) -> None:
    """Refuses a model that is code, unless that may run, before anything else is said of it."""
    from edgecr.models.external import refuse_code, source_of

    if not allow_code and source_of(str(section.get("arch"))) == "code":
        refuse_code(str(section["arch"]))


def _given(module: nn.Module, images: _Images, weights: AnyPath | None, classes: int | None) -> dict[str, Any]:
    """The recipe's model section for a module in memory."""
    from edgecr.api.given import model_section
    from edgecr.api.images import HOW

    if weights is not None:
        raise RequestError("The module has its weights already; weights are for the name of an architecture.")
    if images.size is None:
        raise RequestError("Give the size of the module's images: size=224, or size=(height, width).")
    if images.unscaled:
        raise RequestError(HOW)
    height, width = (images.size, images.size) if isinstance(images.size, int) else images.size
    section = model_section(module, (height, width))
    if classes not in (None, section["classes"]):
        raise RequestError(f"The module answers with {section['classes']} classes, not {classes}; leave classes out.")
    return section


def _named(model: str | Mapping[str, Any], weights: AnyPath | None, classes: int | None) -> dict[str, Any]:
    """The recipe's model section; without weights of its own a model of a library has the published ones."""
    from edgecr.models.external import source_of

    section: dict[str, Any] = {"arch": model} if isinstance(model, str) else dict(model)
    if weights is not None:
        section["weights"] = weights
    if classes is not None:
        section["classes"] = classes
    if "weights" not in section and source_of(str(section.get("arch"))) in ("torchvision", "timm"):
        section = {"pretrained": True, "classes": IMAGENET} | section
    return plain_values(section, "model")


def _limit(latency: float | str) -> dict[str, float]:
    """The gate on the latency: of the baseline's, or in milliseconds."""
    from pydantic import ValidationError

    from edgecr.methods.prune.options import Budget
    from edgecr.surgery.planning.amounts import LATENCY

    try:
        asked = Budget.parse({"latency": latency}).shares()[LATENCY]
    except ValidationError as error:
        raise RequestError(f"latency {latency!r}: {_LATENCIES}") from error
    name, amount = ("max", asked / 1e6) if isinstance(asked, int) else ("ratio", asked)
    if amount < LEAST:
        raise RequestError(f"latency {latency!r} is less than any model takes: {_LATENCIES}")
    limit = round(amount * SLACK, 6)
    return {name: limit if name == "max" else min(limit, 1.0)}  # never slower than the model itself


_LATENCIES = "give a fraction between 0 and 1, or a time such as '3 ms'."
