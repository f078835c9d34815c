"""Carries out a repair: draws the images, refits the layers, and says what it brought."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor, nn

from edgecr.core.errors import RequestError, UnsupportedModel
from edgecr.data.base import ImageSet
from edgecr.data.splits import spread
from edgecr.methods.repair.record import NAME, LayerError, RepairRecord
from edgecr.subject import Subject
from edgecr.surgery.changes.base import replay, standing_masks
from edgecr.surgery.changes.binary import binary_tensors
from edgecr.surgery.changes.cut import ChannelCut
from edgecr.surgery.changes.mask import set_to_zero
from edgecr.surgery.counters import count
from edgecr.surgery.repair.options import FEW, FEWEST, RepairOptions
from edgecr.surgery.repair.refit import CHUNK, PIXELS, Sample, repair
from edgecr.tasks import Answers, arrays
from edgecr.training.context import StepContext
from edgecr.training.inputs import Inputs
from edgecr.training.order import order_for

JUDGED, JUDGED_AT_LEAST = 512, 128
"""Validation images that tell what a repair brought, and those that do where they take long."""
JUDGING = 5e11
"""Multiply-accumulates of the model before the cut that are worth more than the least: some ten seconds."""


def check_only_cut(baseline: Subject, subject: Subject) -> None:
    """Refuses a subject that is anything else than the baseline without some of its channels."""
    known = len(baseline.surgery)
    if baseline.declared() != subject.declared() or baseline.surgery != subject.surgery[:known]:
        raise RequestError(
            "A repair compares a pruned model with the baseline layer by layer, but the baseline of this run has "
            "another architecture. Leave repair out, and let prune repair: it compares with the model that it prunes."
        )
    if len(subject.surgery) == known:
        raise RequestError(
            "Nothing was removed from the baseline, so there is nothing to repair; put repair after prune."
        )
    cut = copy.deepcopy(baseline.module)
    replay(cut, subject.surgery[known:])
    set_to_zero(cut, standing_masks(subject.module, subject.surgery[known:]))
    own = subject.module.state_dict()
    if not all(torch.equal(tensor, own[name]) for name, tensor in cut.state_dict().items()):
        raise RequestError(
            "The model was trained or repaired since channels were removed, and a repair would undo that. Put repair "
            "right behind `prune: {repair: false}`, or give its options to prune: `repair: {images: 1024}`."
        )


def repaired(before: Subject, subject: Subject, options: RepairOptions, context: StepContext) -> Subject:
    """Refits the layers of a subject in place to what they answered before; tells and records the outcome."""
    added = subject.surgery[len(before.surgery) :]
    cuts = [change for change in added if isinstance(change, ChannelCut)]
    images, inputs = _drawn(context, options), inputs_of(subject, context)
    chunks = in_chunks(inputs, context.data.train, images)
    judged = _judged(before, context)
    wanted, unrepaired = (_answered(one.module, inputs, judged, context) for one in (before, subject))
    sample = Sample(chunks, options.positions, options.ridge, context.seed)
    free = standing_masks(subject.module, subject.surgery)
    done = repair(before.module, subject.module, cuts, sample, free, context.monitor, _fixed(subject))
    agreed, agrees = (
        _same(wanted, found, context) for found in (unrepaired, _answered(subject.module, inputs, judged, context))
    )
    record = RepairRecord(
        images=len(images),
        positions=options.positions,
        ridge=options.ridge,
        layers=tuple(LayerError(layer=one.layer, before=one.before, after=one.after) for one in done.layers),
        skipped=dict(done.skipped),
        looked_at=len(agreed),
        agreed=int(agreed.sum()),
        agrees=int(agrees.sum()),
    )
    context.record(NAME, record)
    context.monitor.say(record.told())
    for layer, why in done.skipped.items():
        context.monitor.warn(f"{layer} was not repaired: {why}.")
    context.monitor.event(
        "repaired", layers=len(done.layers), images=len(images), agreed=record.agreed, agrees=record.agrees
    )
    return subject


def repaired_if_possible(
    before: Subject, subject: Subject, options: RepairOptions, context: StepContext, *, asked: bool
) -> Subject:
    """The repaired subject; one that nobody ``asked`` to repair stays as it is where that cannot be."""
    if asked:
        return repaired(before, subject, options, context)
    if not enough_images(context.data.train):
        context.monitor.say(f"Not repaired: that takes {FEWEST} training images or more.")
        return subject
    try:
        return repaired(before, subject, options, context)
    except UnsupportedModel as error:
        context.monitor.warn(f"Not repaired: {error}")
        return subject


def _fixed(subject: Subject) -> dict[str, str]:
    """The weights that no repair may change, and why."""
    return dict.fromkeys(binary_tensors(subject.surgery), "its weights are binary")


def enough_images(images: ImageSet) -> bool:
    """True where there are so many images that a repair is worth it."""
    return len(images) >= FEWEST


def _drawn(context: StepContext, options: RepairOptions) -> np.ndarray:
    """Training images by the seed; their labels are not asked for."""
    train = context.data.train
    if not enough_images(train):
        raise RequestError(
            f"A repair needs at least {FEWEST} training images, and there are {len(train)}: it would fit chance. "
            "Give more images, or leave the repair out."
        )
    count = min(options.images, len(train))
    if count < FEW:
        context.monitor.warn(
            f"The repair has {count} images only; {FEW} or more are clearly better (ResNet-56 at half of its compute "
            "reached 79 % with 128 images, and 86 % with 512)."
        )
    return some_of(train, count, context.seed)


def some_of(images: ImageSet, count: int, seed: int = 0) -> np.ndarray:
    """The indices of some images, by the seed; their labels are not read."""
    return spread(np.zeros(len(images)), count, seed)


def inputs_of(subject: Subject, context: StepContext) -> Inputs:
    """Turns the images of a step into what its model reads."""
    shape = context.data.preprocessing
    return Inputs(shape, torch.device("cpu"), order_for(subject.module, shape.size))


class Chunks(Sequence[Tensor]):
    """Chunks of stored images, each of which is normalised when it is asked for."""

    def __init__(self, inputs: Inputs, stored: Sequence[Tensor]) -> None:
        self._inputs, self._stored = inputs, stored

    def __len__(self) -> int:
        return len(self._stored)

    @overload
    def __getitem__(self, number: int) -> Tensor: ...

    @overload
    def __getitem__(self, number: slice) -> Chunks: ...

    def __getitem__(self, number: int | slice) -> Tensor | Chunks:
        """One chunk as the model reads it, or several that are still stored."""
        if isinstance(number, slice):
            return Chunks(self._inputs, self._stored[number])
        return self._inputs.normalise(self._stored[number])


def in_chunks(inputs: Inputs, images: ImageSet, chosen: np.ndarray) -> Chunks:
    """Some images in chunks of equal sizes: a model may run other operators for one image than for several."""
    most = max(1, min(CHUNK, PIXELS // math.prod(inputs.preprocessing.size)))
    parts = np.array_split(chosen, -(-len(chosen) // most)) if len(chosen) else []
    return Chunks(inputs, [images.images(part) for part in parts])


def _judged(before: Subject, context: StepContext) -> np.ndarray:
    """The validation images that tell what a repair brought: fewer where each takes long."""
    affordable = int(JUDGING / max(1, count(before.module, before.input_shape).macs))
    return some_of(context.data.validation, min(JUDGED, max(JUDGED_AT_LEAST, affordable)))


@torch.inference_mode()
def _answered(module: nn.Module, inputs: Inputs, chosen: np.ndarray, context: StepContext) -> list[Answers]:
    """The answers of a module to some validation images, in parts."""
    images, task = context.data.validation, context.data.task
    module.eval()
    return [task.decode(arrays(task.outputs_of(module(chunk)))) for chunk in in_chunks(inputs, images, chosen)]


def _same(one: list[Answers], other: list[Answers], context: StepContext) -> np.ndarray:
    """For each image, true where both answers are the same."""
    task = context.data.task
    return np.concatenate([np.zeros(0, dtype=bool), *(task.same(*pair) for pair in zip(one, other))])
