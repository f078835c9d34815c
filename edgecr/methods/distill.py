"""Knowledge distillation (Hinton et al. 2015): a student learns a teacher's softened answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from edgecr.core.errors import FileProblem, RequestError
from edgecr.core.options import Options
from edgecr.methods.base import Method, methods
from edgecr.models import AnyArchitecture, Architecture
from edgecr.training.context import StepContext
from edgecr.training.options import TrainOptions

if TYPE_CHECKING:
    from edgecr.subject import Subject


class TeacherRun(Options):
    """A finished run whose baseline teaches."""

    run: Path
    """Folder of the run."""


def _teacher_kind(value: Any) -> str:
    names_run = isinstance(value, TeacherRun) or (isinstance(value, Mapping) and "run" in value)
    return "run" if names_run else "architecture"


Teacher = Annotated[
    Annotated[TeacherRun, Tag("run")] | Annotated[AnyArchitecture, Tag("architecture")],
    Discriminator(_teacher_kind),
]


@methods.register("distill")
class Distill(TrainOptions, Method):
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
    """Who is taught: the keys that differ from the recipe's model; left out: the model as it stands."""
    teacher: Teacher | None = None
    """Who teaches: ``{run: DIR}``, ``{weights: FILE, ...}`` or ``{pretrained: true, ...}``; left out: the model as it
    stood before."""
    temperature: Annotated[float, Field(gt=0)] = 4.0
    """How soft the answers are made that are compared."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Weight of the teacher's answers; the labels have the rest."""
    direction: Literal["forward", "reverse"] = "forward"
    """forward: KL(teacher || student), Hinton's; reverse: KL(student || teacher)."""

    @field_validator("teacher")
    @classmethod
    def _knows_something(cls, teacher: TeacherRun | Architecture | None) -> TeacherRun | Architecture | None:
        if isinstance(teacher, Architecture) and not teacher.starts_trained:
            raise ValueError(
                "the teacher has no weights: add weights: FILE or pretrained: true, or name a run with run: DIR"
            )
        return teacher

    @classmethod
    def resolve(cls, options: dict[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Completes a partly described student or teacher from the recipe's model, except its weights."""
        model = recipe.get("model")
        if not isinstance(model, Mapping):
            return options
        pair = {key: options.get(key) for key in ("student", "teacher")}
        return options | {k: _completed(v, model) for k, v in pair.items() if isinstance(v, Mapping)}

    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Trains the student; the subject given teaches unless another teacher was named."""
        from edgecr.training.loop import fit
        from edgecr.training.losses import Distillation

        teacher = self._teacher(subject, context)
        student = self._student(subject, context)
        loss = Distillation(teacher.module, self.temperature, self.alpha, self.direction, self.label_smoothing)
        fit(student.module, self, loss, context)
        return student

    def _student(self, subject: Subject, context: StepContext) -> Subject:
        if self.student is None:
            return subject
        _check_classes("student", self.student.classes, subject)
        return _fresh(self.student, subject, context)

    def _teacher(self, subject: Subject, context: StepContext) -> Subject:
        if self.teacher is None:
            return subject
        if isinstance(self.teacher, TeacherRun):
            teacher = _from_run(self.teacher.run, context)
            _check_classes(f"teacher of {self.teacher.run}", teacher.classes, subject)
            return teacher
        _check_classes("teacher", self.teacher.classes, subject)
        return _fresh(self.teacher, subject, context, trained=True)


def _completed(values: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """The model's keys below the given ones when both are the same architecture; a run needs none."""
    if "run" in values or values.get("arch", model.get("arch")) != model.get("arch"):
        return dict(values)
    return {key: value for key, value in model.items() if key not in ("weights", "pretrained")} | dict(values)


def _fresh(declared: Architecture, subject: Subject, context: StepContext, *, trained: bool = False) -> Subject:
    from edgecr.subject import Subject

    size = subject.input_shape[1:]
    code = context.execution.allow_code
    return Subject.create(declared, subject.classes, size, context.seed, allow_code=code, trained=trained)


def _from_run(run: Path, context: StepContext) -> Subject:
    from edgecr.subject import Subject

    folder = run / "baseline"
    if not (folder / "subject.json").is_file():
        raise FileProblem(f"{run} is not a finished run: it has no baseline/subject.json to teach with.")
    return Subject.load(folder, allow_code=context.execution.allow_code)


def _check_classes(who: str, classes: int | None, subject: Subject) -> None:
    if classes not in (None, subject.classes):
        raise RequestError(
            f"The {who} knows {classes} classes, but the data has {subject.classes}; both must be equal."
        )
