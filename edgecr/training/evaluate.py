"""How often a module is right."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from edgecr.data.base import ImageSet, Preprocessing
from edgecr.data.batches import eval_batches
from edgecr.training.augment import Inputs


def accuracy(
    module: nn.Module, images: ImageSet, preprocessing: Preprocessing, batch: int = 256,
    autocast: AbstractContextManager[object] | None = None,
) -> float:
    """The fraction of images whose class the module names, in evaluation mode and without gradients."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    inputs = Inputs(preprocessing, device)
    was_training = module.training
    module.eval()
    correct = torch.zeros((), dtype=torch.int64, device=device)
    try:
        with torch.inference_mode(), autocast or nullcontext():
            for _, stored, labels in eval_batches(images, batch):
                answers = module(inputs.normalise(stored)).argmax(dim=1)
                correct += (answers == torch.as_tensor(labels, device=device)).sum()
    finally:
        module.train(was_training)
    return correct.item() / len(images)
