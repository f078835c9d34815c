"""Channel pruning of a module in memory: the recipe's method, on a copy of what the caller built."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from edgecr.api.given import home_of, options_of, subject_of
from edgecr.api.images import Data, Three, check_images, dataset_of, without_images
from edgecr.api.runs import plain_values, progress
from edgecr.core.errors import RequestError
from edgecr.core.progress import Bar, Monitor
from edgecr.data.base import Dataset
from edgecr.data.views import LearningData
from edgecr.latency_builder.device_latencies import AgentLatencies
from edgecr.methods.base import check_labels
from edgecr.methods.prune.method import Prune
from edgecr.subject import Subject
from edgecr.surgery.changes.base import Change
from edgecr.surgery.planning.record import Amount, PlanRecord
from edgecr.training.context import StepContext

BATCHES = 8
"""Batches of the caller's that scores by images look at, as many as in a recipe."""


@dataclass(frozen=True)
class PruneRecord:
    """The record of a pruning: the plan with its figures, and the proof that the result computes the same."""

    plan: PlanRecord
    difference: float
    """Difference from the answers of the module with the same channels set to zero, relative to the largest."""
    kept: Mapping[str, str]
    """Layers whose channels all stay, with the reasons."""
    surgery: tuple[Change, ...] = field(repr=False)
    """Everything that went, tensor by tensor: enough to repeat it on a fresh copy of the module."""

    @property
    def groups(self) -> dict[str, tuple[int, int]]:
        """The channels before and after of each group, by the first layer that makes them."""
        return {width.group: (width.before, width.after) for width in self.plan.widths}

    @property
    def amounts(self) -> dict[str, Amount]:
        """Channels, parameters, MACs, bytes and latency: before, after, and the budget if one was set."""
        return {amount.figure: amount for amount in self.plan.amounts}

    def plain(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        plan = self.plan.model_dump(mode="json")
        cuts = [cut.plain() for cut in self.surgery]
        return {"plan": plan, "difference": self.difference, "kept": dict(self.kept), "surgery": cuts}

    def __str__(self) -> str:
        lines = [*self.plan.outcome(), f"difference from the masked module: {self.difference:.1e}"]
        return "\n".join(lines)


class PrunedModule(NamedTuple):
    """A module without the channels that went, and the record of them."""

    module: nn.Module
    record: PruneRecord


@torch.inference_mode(False)  # a caller in inference mode is served too: planning needs tensors that it may change
def prune(
    module: nn.Module,
    example_input: Tensor,
    *,
    budget: Mapping[str, float | str] | None = None,
    sparsity: float | None = None,
    score: str = "l2",
    scope: str = "global",
    drop: str = "none",
    normalise: bool = False,
    repair: bool | Mapping[str, Any] | None = None,
    recalibrate: bool = False,
    data: Data | None = None,
    mean: Three | None = None,
    std: Three | None = None,
    exclude: Iterable[str] = (),
    align: str | int = "auto",
    min_channels: int = 1,
    min_fraction: float = 0.0,
    max_fraction: float = 1.0,
    strict: bool = False,
    device: str = "cpu",
    target: str = "onnx",
    latency_batch: int = 1,
    seed: int = 0,
    quiet: bool = False,
) -> PrunedModule:
    """A copy of the module without its least important channels, physically, and the record; the module stays as it is.

    ``budget`` says what may remain of ``params``, ``macs``, ``size`` or ``latency`` (of ``device``, in files of the
    export target ``target``); ``sparsity`` says what goes. ``exclude`` are name patterns of layers that stay whole.
    Scores by images, ``repair`` and ``scope="measured"`` need ``data``; from 64 images on the layers that are left are
    refitted to what they answered before, unless ``repair`` is false; ``recalibrate`` is its plain alternative. The
    other options are those of a recipe's ``prune`` step. Nothing is trained.
    """
    _check_images_given(data, scope, repair, recalibrate)
    subject, monitor = subject_of(module, example_input), _Listening(progress(quiet))
    options: dict[str, Any] = {
        "budget": None if budget is None else plain_values(budget, "budget"),
        "sparsity": sparsity,
        "score": score,
        "scope": scope,
        "drop": drop,
        "normalise": normalise,
        "exclude": list(exclude),
        "align": align,
        "min_channels": min_channels,
        "min_fraction": min_fraction,
        "max_fraction": max_fraction,
        "strict": strict,
        "target": target,
        "recalibrate": recalibrate,
        "repair": plain_values(repair, "repair") if isinstance(repair, Mapping) else repair,
    }
    if data is None:
        options["repair"] = False
    planned_for = {"measure": {"devices": [device], "batch": [latency_batch]}}
    method = options_of(Prune, Prune.resolve(options, planned_for), "prune")
    images = LearningData.of(_images(data, subject, mean, std, monitor))
    check_labels("prune", method, images.labelled)
    with tempfile.TemporaryDirectory(prefix="edgecr-prune-") as folder:
        context = StepContext(images, seed, Path(folder), monitor=monitor, latencies=AgentLatencies(monitor))
        pruned, plan = method.apply(subject, context), PlanRecord.load(Path(folder))
    facts, slim = monitor.pruned, pruned.module.to(home_of(module))
    return PrunedModule(slim, PruneRecord(plan, facts["difference"], facts["stays"], pruned.surgery))


def _check_images_given(
    data: Data | None, scope: str, repair: bool | Mapping[str, Any] | None, recalibrate: bool
) -> None:
    """Refuses wishes that only images can fulfil where there are none."""
    wishes = {
        "scope='measured'": scope == "measured",
        "repair": repair not in (None, False),
        "recalibrate": recalibrate,
    }
    if data is None and (wish := next((name for name, wished in wishes.items() if wished), "")):
        raise RequestError(f"{wish} looks at images, and there are none: give data=FOLDER, or data=(images, labels).")


def _images(data: Data | None, subject: Subject, mean: Three | None, std: Three | None, monitor: Monitor) -> Dataset:
    """The training images that scores may look at."""
    size = subject.input_shape[-2:] if len(subject.input_shape) == 3 else (1, 1)
    if data is None:
        return without_images(size)
    found = dataset_of(data, size=size, mean=mean, std=std, most_batches=BATCHES, monitor=monitor)
    check_images(found, subject.input_shape, subject.classes)
    return found


class _Listening(Monitor):
    """Passes everything on, and keeps what the method says of its result."""

    def __init__(self, display: Monitor) -> None:
        self.pruned: dict[str, Any] = {}
        self._display = display

    @override
    def say(self, text: str) -> None:
        self._display.say(text)

    @override
    def warn(self, text: str) -> None:
        self._display.warn(text)

    @override
    def event(self, kind: str, **facts: Any) -> None:
        if kind == "pruned":
            self.pruned = facts

    @override
    def bar(self, label: str, total: float, done: float = 0) -> Bar:
        return self._display.bar(label, total, done)
