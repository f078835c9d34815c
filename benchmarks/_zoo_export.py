"""One network of the zoo, whole or cut: its files by the product's exporters, and their answers in each runtime."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import numpy as np
import torch
from _networks import calm, recognise, take_statistics
from coverage import thirty_percent
from torch import nn

from edgecr.api.images import dataset_of
from edgecr.core.errors import EdgecrError
from edgecr.data.base import Preprocessing
from edgecr.data.sets import MemorySet
from edgecr.data.views import ProofData
from edgecr.exporters import Artifact, Target, Written, exporters, load_target
from edgecr.exporters.onnx import write as onnx_write
from edgecr.exporters.parity import compare, failures
from edgecr.exporters.target import PARITY_IMAGES
from edgecr.models import architecture
from edgecr.predictors import predictor_for
from edgecr.predictors.openvino_file import openvino_library
from edgecr.predictors.torch_predictor import TorchPredictor
from edgecr.subject import Subject
from edgecr.surgery.carry_out import prune_channels
from edgecr.surgery.counters import count
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.scoring.scores import ScoringInputs, scores

SHOWN, CALIBRATION = 10, 16
TOO_SLOW = "too slow"
RUNTIMES = {"onnx": ("ort", "openvino"), "openvino": ("openvino",)}
"""The runtimes of a format's files that are on this machine; the exporter itself proves them in the first."""
LIBRARIES = ("timm", "edgecr.exporters.onnx.rounding", "edgecr.exporters.onnx.coverage")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class OutOfTimeError(BaseException):
    """Ends a step that has used up its processor time; no library may take it for an error of its own."""


@dataclass(frozen=True)
class Case:
    """A network in one state: whole, or with 30 % of the channels of every group removed."""

    name: str
    side: int
    cut: bool
    seconds: int
    """Processor time that each file may take."""
    data: Path | None = None

    def examined(self, targets: tuple[str, ...], keep: Callable[[dict[str, Any]], None]) -> None:
        """Makes the files of all targets one after the other; whatever is known after each is kept."""
        found: dict[str, Any] = {"network": self.name, "side": self.side, "cut": self.cut, "files": {}}
        proof = images(self.side, self.data)
        try:
            with limited(self.seconds):
                subject = self._subject(proof)
        except (EdgecrError, OutOfTimeError) as error:
            keep(found | {"fault": reason(error)})
            return
        size = count(subject.module, subject.input_shape)
        found |= {"params": size.params, "macs": size.macs}
        with one_trace():
            for target in targets:
                found["files"][target] = self._file(subject, load_target(target), proof)
                keep(found)

    def _subject(self, proof: ProofData) -> Subject:
        """The network with the statistics of some images, cut if it is to be, and able to tell other images apart."""
        subject = Subject.create(architecture({"arch": self.name}), len(proof.classes), (self.side, self.side), seed=0)
        calm(subject.module)
        seen = inputs(proof, proof.calibration(CALIBRATION))
        take_statistics(subject.module, seen)
        if self.cut:
            pruned = prune_channels(
                subject.input_shape, scores.get("l2"), ScoringInputs(subject.module), Limits(), thirty_percent
            )
            subject = subject.with_changes(pruned.cut).with_module(pruned.module)
            take_statistics(subject.module, seen)
        shown, labels = proof.judging(PARITY_IMAGES)
        recognise(subject.module, inputs(proof, shown), torch.from_numpy(labels))
        return subject

    def _file(self, subject: Subject, target: Target, proof: ProofData) -> dict[str, Any]:
        """The figures of one target's file in each runtime, or the reason why there is none."""
        begin = time.process_time()
        found: dict[str, Any] = {"runtimes": {}, "fault": ""}
        try:
            with limited(self.seconds), tempfile.TemporaryDirectory(prefix="edgecr-zoo-") as folder:
                artifact = exporters.get(target.format)().export(subject, target, proof, Path(folder), {})
                found["bytes"] = artifact.size_bytes
                found["integers"] = (artifact.receipt.get("integers") or {}).get("share")
                found["fault"] = asked(artifact, subject, target, proof, found["runtimes"])
        except Exception as error:  # a defect of a library or of ours is a finding, too
            found["fault"] = reason(error)
        except OutOfTimeError as error:
            found["fault"] = reason(error)
        return found | {"seconds": round(time.process_time() - begin, 1)}


def asked(
    artifact: Artifact, subject: Subject, target: Target, proof: ProofData, figures: dict[str, dict[str, float]]
) -> str:
    """Holds a file's answers in each runtime beside PyTorch's by the product's limits; the first fault in words."""
    first, *others = RUNTIMES[target.format]
    figures[first] = {key: artifact.parity[key] for key in ("max_rel", "cosine", "agreement")}
    samples, limits = proof.parity(PARITY_IMAGES), target.parity.limits(target.precision)
    reference = TorchPredictor(subject.module, proof.preprocessing)
    for runtime in others:
        result = compare(reference, predictor_for(artifact, threads=1, runtime=runtime), samples, limits)
        figures[runtime] = {"max_rel": result.max_rel, "cosine": result.cosine, "agreement": result.agreement}
        if faults := failures(result, limits):
            return f"in {runtime}: {'; '.join(faults)}"
    return ""


def inputs(proof: ProofData, shown: np.ndarray) -> torch.Tensor:
    """Images as a network takes them."""
    return torch.from_numpy(proof.preprocessing.apply(shown))


def images(side: int, data: Path | None) -> ProofData:
    """The images of a folder, or random ones: blocks of colour under noise, so that no two look alike."""
    preprocessing = Preprocessing(MEAN, STD, (side, side))
    if data is not None:
        return ProofData.of(dataset_of(data, size=(side, side), mean=MEAN, std=STD))
    names = tuple(map(str, range(SHOWN)))  # each of the images to be proven on is a class of its own
    return ProofData(names, preprocessing, "", random_images(CALIBRATION, side, 0), random_images(SHOWN, side, 1))


def random_images(number: int, side: int, seed: int) -> MemorySet:
    """Random images, always the same ones."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 192, (number, 8, 8, 3))
    large = blocks.repeat(-(-side // 8), axis=1).repeat(-(-side // 8), axis=2)[:, :side, :side]
    noise = generator.integers(0, 64, (number, side, side, 3))
    return MemorySet((large + noise).astype(np.uint8), np.arange(number) % SHOWN)


def warm_up() -> None:
    """Loads the libraries, which torch's exporter does at its first export, before processes are made of this one."""
    for module in LIBRARIES:
        import_module(module)
    openvino_library()
    example = torch.zeros(1, 3, 8, 8)
    with onnx_write.silence():
        torch.onnx.export(nn.Conv2d(3, 1, 1).eval(), (example,), dynamo=True, verbose=False)


@contextmanager
def one_trace() -> Iterator[None]:
    """Has torch write each network once: all targets begin with the same float32 file."""
    made: dict[tuple[Any, ...], tuple[Written, bytes] | EdgecrError] = {}
    original = onnx_write.write

    def write(subject: Subject, target: Any, preprocessing: Preprocessing, file: Path, **rest: Any) -> Written:
        key = (id(subject.module), target.opset, target.dynamic_batch, target.embed_preprocessing)
        if key not in made:
            try:
                written = original(subject, target, preprocessing, file, **rest)
                made[key] = (written, file.read_bytes())
            except EdgecrError as error:
                made[key] = error
            except OutOfTimeError:
                made[key] = EdgecrError(f"{TOO_SLOW} (torch's export)")
                raise
        found = made[key]
        if isinstance(found, EdgecrError):
            raise found
        file.write_bytes(found[1])
        return replace(found[0], main=file.name)

    with mock.patch.object(onnx_write, "write", write):
        yield


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises once this process has computed for so long: other work on the machine does not count."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise OutOfTimeError(f"{TOO_SLOW} (more than {seconds} s of processor time)")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def reason(error: BaseException) -> str:
    """The error in one line; of one that is not the product's own, with its kind."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (EdgecrError, OutOfTimeError)) else f"{type(error).__name__}: {text}"
