"""Carries out a repair: draws the images, refits the layers, and says what it brought."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgecr.core.errors import RequestError
from edgecr.data.base import ImageSet
from edgecr.data.splits import spread
from edgecr.methods.repair_record import NAME, LayerError, RepairRecord
from edgecr.subject import Subject
from edgecr.surgery.changes.cut import ChannelCut
from edgecr.surgery.repair.options import FEW, FEWEST, RepairOptions
from edgecr.surgery.repair.refit import CHUNK, Sample, repair
from edgecr.tasks import arrays
from edgecr.training.context import StepContext
from edgecr.training.inputs import Inputs
from edgecr.training.order import order_for

JUDGED = 512
"""Validation images that tell what a repair brought."""


def repaired(before: Subject, subject: Subject, options: RepairOptions, context: StepContext) -> Subject:
    """Refits the layers of a subject in place to what they answered before; tells and records the outcome."""
    added = subject.surgery[len(before.surgery) :]
    cuts = [change for change in added if isinstance(change, ChannelCut)]
    if not cuts:
        raise RequestError(
            "Nothing was removed from the baseline, so there is nothing to repair; put repair after prune."
        )
    images, order = _drawn(context, options), order_for(subject.module, context.data.preprocessing.size)
    inputs = Inputs(context.data.preprocessing, torch.device("cpu"), order)
    chunks = [inputs.normalise(part) for part in torch.split(images, CHUNK)]
    agreed = _agreement(before.module, subject.module, inputs, context)
    sample = Sample(chunks, options.positions, options.ridge, context.seed)
    done = repair(before.module, subject.module, cuts, sample, monitor=context.monitor)
    agrees = _agreement(before.module, subject.module, inputs, context)
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


def enough_images(images: ImageSet) -> bool:
    """True where there are so many images that a repair is worth it."""
    return len(images) >= FEWEST


def _drawn(context: StepContext, options: RepairOptions) -> Tensor:
    """Training images by the seed, spread over the classes."""
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
    return train.images(spread(train.labels, count, context.seed))


@torch.inference_mode()
def _agreement(before: nn.Module, after: nn.Module, inputs: Inputs, context: StepContext) -> np.ndarray:
    """For some validation images, true where both models give the same answer."""
    images, task = context.data.validation, context.data.task
    if not len(images):
        return np.zeros(0, dtype=bool)
    chosen = spread(images.labels, JUDGED)
    same = []
    for part in np.array_split(chosen, -(-len(chosen) // CHUNK)):
        read = inputs.normalise(images.images(part))
        one, other = (task.decode(arrays(task.outputs_of(_asked(module, read)))) for module in (before, after))
        same.append(task.same(one, other))
    return np.concatenate(same)


def _asked(module: nn.Module, images: Tensor) -> object:
    module.eval()
    return module(images)
