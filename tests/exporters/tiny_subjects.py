"""A tiny network that can be whole, slimmed or merely masked, as a subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgecr.data.base import Preprocessing
from edgecr.data.sets import MemorySet
from edgecr.data.views import ProofData
from edgecr.exporters import Artifact, Target, exporters, parse_target
from edgecr.models.base import Architecture
from edgecr.subject import Subject
from edgecr.surgery.changes import Promise

LABELS = ("a", "b", "c", "d", "e")


class ThreeLayers(nn.Sequential):
    """conv 3 -> width, conv width -> 6 at stride 2, linear to five classes, on 8x8 images."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 5),
        )


class Anything(Architecture):
    arch: str = "anything"

    def build(self, classes: int, *, allow_code: bool = False) -> nn.Module:
        raise NotImplementedError


@dataclass(frozen=True)
class Promising(Subject):
    """A subject whose surgery promises the module made by ``promised``, its baseline by ``untouched``."""

    untouched: Callable[[], nn.Module] = ThreeLayers
    promised: Callable[[], nn.Module] = ThreeLayers

    def skeleton(self, *, allow_code: bool = False) -> nn.Module:
        return self.promised() if self.surgery else self.untouched()

    def promise(self, *, allow_code: bool = False) -> Promise:
        return Promise()


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and normalisation statistics as after a training, so that folding has something to fold."""
    generator = torch.Generator().manual_seed(seed)
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        if norm.affine:
            norm.weight.data.uniform_(0.5, 2, generator=generator)
            norm.bias.data.normal_(generator=generator)
        norm.running_mean.normal_(generator=generator)
        norm.running_var.uniform_(0.5, 2, generator=generator)
    return module


def subject_of(
    module: nn.Module,
    cut: bool = False,
    size: int = 8,
    untouched: Callable[[], nn.Module] = ThreeLayers,
    promised: Callable[[], nn.Module] = ThreeLayers,
) -> Promising:
    surgery = (object(),) if cut else ()
    return Promising(
        Anything(),
        len(LABELS),
        (3, size, size),
        randomised(module),
        surgery,  # type: ignore[arg-type]
        untouched=untouched,
        promised=promised,
    )


def images(count: int = 7, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def target(**options: object) -> Target:
    return parse_target({"name": "t", "purpose": "a test", "format": "onnx"} | options)


def preprocessing(size: int = 8) -> Preprocessing:
    return Preprocessing((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), (size, size))


def proof(count: int = 7, size: int = 8, calibration: int = 0) -> ProofData:
    """So many images to prove a file on, and to calibrate with."""
    shown, learnt = (MemorySet(images(each, size), np.arange(each)) for each in (count, calibration))
    return ProofData(LABELS, preprocessing(size), "", learnt, shown)


def export(subject: Subject, folder: Path, calibration: int = 0, **options: object) -> Artifact:
    """One export with everything that does not matter filled in."""
    given, declared = proof(7, subject.input_shape[1], calibration), target(**options)
    return exporters.get(declared.format)().export(subject, declared, given, folder, {"run": "test"})
