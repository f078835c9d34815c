"""How often a module is right."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from edgecr.data.base import ImageSet, Preprocessing
from edgecr.data.batches import WHOLE, Share, eval_batches
from edgecr.training.inputs import Inputs
from edgecr.training.order import order_for


def accuracy(
    module: nn.Module,
    images: ImageSet,
    preprocessing: Preprocessing,
    batch: int = 256,
    autocast: AbstractContextManager[object] | None = None,
) -> float:
    """The fraction of images whose class the module names, in evaluation mode and without gradients."""
    return int(right_answers(module, images, preprocessing, batch, autocast)) / len(images)


def right_answers(
    module: nn.Module,
    images: ImageSet,
    preprocessing: Preprocessing,
    batch: int = 256,
    autocast: AbstractContextManager[object] | None = None,
    share: Share = WHOLE,
) -> Tensor:
    """How many images of a share the module names the class of, as a whole number on the module's device."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    inputs = Inputs(preprocessing, device, order_for(module, preprocessing.size))
    was_training = module.training
    module.eval()
    correct = torch.zeros((), dtype=torch.int64, device=device)
    try:
        with torch.inference_mode(), autocast or nullcontext():
            for _, stored, labels in eval_batches(images, batch, share):
                answers = module(inputs.normalise(stored)).argmax(dim=1)
                correct += (answers == torch.as_tensor(labels, device=device)).sum()
    finally:
        module.train(was_training)
    return correct
