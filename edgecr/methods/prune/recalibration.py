"""Batch-norm statistics taken anew after a removal that nothing makes up for."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgecr.core.errors import RequestError, UnsupportedModel
from edgecr.methods.repair.step import Chunks, enough_images, in_chunks, inputs_of, some_of
from edgecr.subject import Subject
from edgecr.surgery.repair.gathered import Spread
from edgecr.surgery.repair.options import FEWEST
from edgecr.surgery.tracing.running import running
from edgecr.training.context import StepContext

IMAGES = 1_024
"""Training images whose statistics the norms take."""


def recalibrated(subject: Subject, context: StepContext) -> Subject:
    """The subject with norms that have the statistics of training images instead of their own; labels are not read."""
    train = context.data.train
    if not enough_images(train):
        raise RequestError(
            f"recalibrate needs at least {FEWEST} training images, and there are {len(train)}: their statistics would "
            "be chance. Give more images, or leave recalibrate out."
        )
    chosen = some_of(train, min(IMAGES, len(train)), context.seed)
    norms = take_statistics(subject.module, in_chunks(inputs_of(subject, context), train, chosen))
    if norms:
        context.monitor.say(f"{norms} batch norms took the statistics of {len(chosen)} training images.")
    else:
        context.monitor.warn("recalibrate did nothing: the model has no batch norm that keeps statistics.")
    context.monitor.event("recalibrated", norms=norms, images=len(chosen))
    return subject


def take_statistics(module: nn.Module, images: Chunks) -> int:
    """Gives batch norms the statistics of all images together; returns how many norms took some.

    Each chunk runs with its own statistics, as in training, so that a norm sees what norms before it will make of
    images once they have theirs.
    """
    norms = [child for child in module.modules() if isinstance(child, _BatchNorm) and child.running_mean is not None]
    spreads, before = {norm: Spread() for norm in norms}, [_copied(norm) for norm in norms]

    def notice(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        spreads[norm].add(given[0])  # type: ignore[index]

    hooks = [norm.register_forward_pre_hook(notice) for norm in norms]
    try:
        with running(module, lambda child: child in spreads):
            for chunk in images:
                module(chunk)
    except Exception as error:  # the code is the user's, so anything may be raised
        _put_back(norms, before)
        raise UnsupportedModel(f"Batch norms cannot be recalibrated: {error} Leave recalibrate out.") from error
    finally:
        for hook in hooks:
            hook.remove()
    _put_back(norms, before)
    for norm, spread in spreads.items():
        if spread.count > 1:
            norm.running_mean.copy_(spread.mean)  # type: ignore[union-attr]
            norm.running_var.copy_(spread.variance)  # type: ignore[union-attr]
    return sum(spread.count > 1 for spread in spreads.values())


def _copied(norm: _BatchNorm) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in norm.named_buffers(recurse=False)}


@torch.no_grad()
def _put_back(norms: list[_BatchNorm], before: list[dict[str, Tensor]]) -> None:
    """Undoes what training mode did to the running statistics."""
    for norm, tensors in zip(norms, before):
        for name, tensor in tensors.items():
            norm.get_buffer(name).copy_(tensor)
