"""Distillation between two modules in memory, by the training loop and the loss of the recipe's method."""

from __future__ import annotations

import os
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from edgecr.api.given import copied, options_of
from edgecr.api.images import Data, Size, Three, dataset_of, with_validation
from edgecr.api.runs import AnyPath, progress
from edgecr.data.views import LearningData
from edgecr.methods.distill import Distill
from edgecr.training.context import Execution, StepContext
from edgecr.training.history import History
from edgecr.training.loop import fit
from edgecr.training.losses import Distillation


class TrainedModule(NamedTuple):
    """A trained module in evaluation mode, and what happened in each epoch."""

    module: nn.Module
    history: History


def distill(
    student: nn.Module,
    teacher: nn.Module,
    data: Data,
    *,
    epochs: int = 10,
    batch: int = 128,
    lr: float | None = None,
    temperature: float = 4.0,
    alpha: float = 0.9,
    direction: Literal["forward", "reverse"] = "forward",
    validation: Data | None = None,
    size: Size | None = None,
    mean: Three | None = None,
    std: Three | None = None,
    accelerator: str = "cpu",
    seed: int = 0,
    folder: AnyPath | None = None,
    quiet: bool = False,
    **training: Any,
) -> TrainedModule:
    """A copy of the student, taught by the teacher's softened answers and the labels; both modules stay as they are.

    ``training`` are further keys of a recipe's ``distill`` step, such as ``optimiser="adamw"`` or ``augment``. Batches
    are read into memory once. With ``folder``, a stopped training goes on from there when it is called again.
    """
    options = options_of(
        Distill,
        {"epochs": epochs, "batch": batch, "lr": lr, "temperature": temperature, "alpha": alpha}
        | {"direction": direction}
        | training,
        "distill",
    )
    monitor = progress(quiet)
    images = dataset_of(data, size=size, mean=mean, std=std, monitor=monitor)
    if validation is not None:
        images = with_validation(images, dataset_of(validation, size=size, mean=mean, std=std, monitor=monitor))
    module, taught_by = copied(student), copied(teacher)
    loss = Distillation(taught_by, options.temperature, options.alpha, options.direction, options.label_smoothing)
    where = Execution(torch.get_num_threads(), accelerator)
    with tempfile.TemporaryDirectory(prefix="edgecr-distill-") if folder is None else nullcontext(folder) as place:
        context = StepContext(LearningData.of(images), seed, Path(os.fspath(place)), where, monitor)
        return TrainedModule(module, fit(module, options, loss, context))
