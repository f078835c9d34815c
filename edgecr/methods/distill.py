"""Knowledge distillation (Hinton et al. 2015) in one step: the short form of a training with ``loss: {kd: …}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_validator
from typing_extensions import Self

from edgecr.methods.base import Method, methods
from edgecr.models import AnyArchitecture
from edgecr.training.context import StepContext
from edgecr.training.losses import LossOptions
from edgecr.training.losses import completed as loss_completed
from edgecr.training.losses.kd import DistillationOptions, SoftAnswers
from edgecr.training.losses.teachers import Teacher, check_classes, completed, fresh
from edgecr.training.options import TrainOptions

if TYPE_CHECKING:
    from edgecr.subject import Subject


@methods.register("distill")
class Distill(SoftAnswers, TrainOptions, Method):
    """Teach a student with a teacher's softened answers (Hinton et al. 2015)."""

    compresses: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "hinton": {
            "temperature": 4.0,
            "alpha": 0.9,
            "epochs": 240,
            "batch": 64,
            "lr": 0.05,
            "weight_decay": 5e-4,
            "schedule": "multistep",
            "milestones": [150, 180, 210],
        },
        "ncsu2023": {"epochs": 75, "direction": "forward"},
    }

    student: AnyArchitecture | None = None
    """Model to train: the keys that differ from the recipe's model; left out: the model as it stands."""
    teacher: Teacher | None = None
    """Model to learn from: ``baseline``, ``{run: DIR}``, ``{weights: FILE, ...}`` or ``{pretrained: true, ...}``; left
    out: the model as it stood before."""

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        """Refuses the keys of the short form beside a loss that is written out."""
        short = [*SoftAnswers.model_fields, "teacher"]
        given = [key for key in short if getattr(self, key) != type(self).model_fields[key].default]
        if self.loss is not None and given:
            raise ValueError(f"{', '.join(given)} here would do nothing; beside loss, write it below the loss's name")
        return self

    @property
    def minimised(self) -> LossOptions:
        """The declared loss, or the one that this step is the short form of."""
        if self.loss is not None:
            return self.loss
        soft = {key: getattr(self, key) for key in SoftAnswers.model_fields}
        return DistillationOptions(teacher=self.teacher or "before", **soft)

    @classmethod
    def resolve(cls, options: dict[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Completes a partly described student or teacher from the recipe's model, except its weights."""
        pair = {key: options.get(key) for key in ("student", "teacher")}
        models = {key: completed(value, recipe) for key, value in pair.items() if isinstance(value, Mapping)}
        return loss_completed(options, recipe) | models

    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Trains the student; the subject given teaches unless another teacher was named."""
        from edgecr.training.loop import fit

        loss = self.build_loss(subject, context)
        student = self._student(subject, context)
        fit(student.module, self, loss, context, surgery=student.surgery)
        return student

    def _student(self, subject: Subject, context: StepContext) -> Subject:
        if self.student is None:
            return subject
        check_classes("student", self.student.classes, subject)
        return fresh(self.student, subject, context)
