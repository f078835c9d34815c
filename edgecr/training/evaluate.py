"""The score of a module on an image set: in classification the fraction of right answers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from edgecr.data.base import ImageSet, Preprocessing
from edgecr.data.batches import WHOLE, Share, eval_batches
from edgecr.tasks import CLASSIFICATION, Task, arrays
from edgecr.tasks.base import checked_scores
from edgecr.training.inputs import Inputs
from edgecr.training.order import order_for


def accuracy(
    module: nn.Module,
    images: ImageSet,
    preprocessing: Preprocessing,
    batch: int = 256,
    autocast: AbstractContextManager[object] | None = None,
    task: Task = CLASSIFICATION,
) -> float:
    """The mean score of the images, in evaluation mode and without gradients."""
    return float(right_answers(module, images, preprocessing, batch, autocast, task=task)) / len(images)


def right_answers(
    module: nn.Module,
    images: ImageSet,
    preprocessing: Preprocessing,
    batch: int = 256,
    autocast: AbstractContextManager[object] | None = None,
    share: Share = WHOLE,
    task: Task = CLASSIFICATION,
) -> Tensor:
    """The sum of the scores of a share's images, in classification the number of right answers.

    It lies on the module's device, so that several processes can add theirs up.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    inputs = Inputs(preprocessing, device, order_for(module, preprocessing.size))
    was_training = module.training
    module.eval()
    total = 0.0
    try:
        with torch.inference_mode(), autocast or nullcontext():
            for _, stored, labels in eval_batches(images, batch, share):
                outputs = arrays(task.outputs_of(module(inputs.normalise(stored))))
                total += float(checked_scores(task, task.decode(outputs), labels.numpy()).sum())
    finally:
        module.train(was_training)
    return torch.tensor(total, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
