"""Distillation between two modules in memory, by the training loop and the loss of the recipe's method."""

from __future__ import annotations

import os
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from edgecr.api.given import classes_of, copied, home_of, options_of
from edgecr.api.images import Data, Size, Three, check_images, dataset_of, with_validation
from edgecr.api.runs import AnyPath, progress
from edgecr.core.errors import RequestError
from edgecr.data.base import Dataset
from edgecr.data.views import LearningData
from edgecr.methods.base import check_labels
from edgecr.methods.distill import Distill
from edgecr.training.context import Execution, StepContext
from edgecr.training.history import History
from edgecr.training.inputs import Inputs
from edgecr.training.loop import fit
from edgecr.training.losses.kd import Distillation
from edgecr.training.order import STANDARD


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
    check_labels("distill", options, images.labelled)
    module, taught_by = copied(student), copied(teacher)
    _check_pair(module, taught_by, images)
    loss = Distillation(taught_by, options.temperature, options.alpha, options.direction, options.label_smoothing)
    where = Execution(torch.get_num_threads(), accelerator)
    with tempfile.TemporaryDirectory(prefix="edgecr-distill-") if folder is None else nullcontext(folder) as place:
        context = StepContext(LearningData.of(images), seed, Path(os.fspath(place)), where, monitor)
        history = fit(module, options, loss, context)
    return TrainedModule(module.to(home_of(student)), history)


def _check_pair(student: nn.Module, teacher: nn.Module, images: Dataset) -> None:
    """Refuses modules that answer differently many classes, or fewer than there are."""
    first = Inputs(images.preprocessing, torch.device("cpu"), STANDARD).normalise(images.train.images([0]))
    taught, known = classes_of(student, first), classes_of(teacher, first)
    if taught != known or not known:
        raise RequestError(
            f"The student has {taught or 'no'} classes, the teacher {known or 'none'}; both must answer with one "
            "number for each of the same classes."
        )
    check_images(images, first.shape[1:], known)
