"""Teachers: models that are already trained and whose answers a loss compares with. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Tag, field_validator

from edgecr.core.errors import FileProblem, RequestError
from edgecr.core.files import read_json
from edgecr.core.options import Options
from edgecr.models import AnyArchitecture, Architecture
from edgecr.models.external import source_of

if TYPE_CHECKING:
    from edgecr.subject import Subject
    from edgecr.training.context import StepContext

NamedTeacher = Literal["baseline", "before"]
"""The run's baseline, or the model as it stands before the step."""


class TeacherRun(Options):
    """A finished run whose baseline teaches."""

    run: Path
    """Folder of the run."""
    arch: str | None = None
    """``package.module:function`` of the run's baseline, where that is your own code; no other code is run."""

    @field_validator("arch")
    @classmethod
    def _is_code(cls, arch: str | None) -> str | None:
        if arch is not None and source_of(arch) != "code":
            raise ValueError("a run knows its architecture; only your own code (package.module:function) is named here")
        return arch

    def refuse_unnamed_code(self) -> None:
        """Raises where the run's baseline is built by code that this declaration does not name."""
        file = self.run / "baseline" / "subject.json"
        if not file.is_file():
            raise FileProblem(f"{self.run} is not a finished run: it has no baseline/subject.json to teach with.")
        record = read_json(file)
        declared = record.get("architecture") if isinstance(record, dict) else None
        arch = declared.get("arch") if isinstance(declared, dict) else None
        if isinstance(arch, str) and source_of(arch) == "code" and arch != self.arch:
            raise RequestError(
                f"The teacher's run {self.run} has a baseline of your own code, {arch}, which the recipe does not "
                f"name. To let it run, write teacher: {{run: {self.run}, arch: '{arch}'}}."
            )

    def load(self, context: StepContext) -> Subject:
        """The run's baseline; code runs only where it is named here and allowed on the command line."""
        from edgecr.subject import Subject

        self.refuse_unnamed_code()
        return Subject.load(self.run / "baseline", allow_code=context.execution.allow_code)


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "name"
    names_run = isinstance(value, TeacherRun) or (isinstance(value, Mapping) and "run" in value)
    return "run" if names_run else "architecture"


def _with_weights(teacher: Any) -> Any:
    if isinstance(teacher, Architecture) and not teacher.starts_trained:
        raise ValueError(
            "the teacher has no weights: add weights: FILE or pretrained: true, or name a run with run: DIR"
        )
    return teacher


Teacher = Annotated[
    Annotated[NamedTeacher, Tag("name")]
    | Annotated[TeacherRun, Tag("run")]
    | Annotated[AnyArchitecture, Tag("architecture")],
    Discriminator(_kind),
    AfterValidator(_with_weights),
]
"""The field type of a declared teacher: a name, a run, or an architecture with its weights."""


def completed(values: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A partly described model, completed from the recipe's one where both are the same architecture, weights apart.

    A run knows its architecture; only the model's own code, if it is that, is allowed to it.
    """
    model = recipe.get("model")
    if not isinstance(model, Mapping):
        return dict(values)
    arch = model.get("arch")
    if "run" in values:
        return ({"arch": arch} if isinstance(arch, str) and source_of(arch) == "code" else {}) | dict(values)
    if values.get("arch", arch) != arch:
        return dict(values)
    return {key: value for key, value in model.items() if key not in ("weights", "pretrained")} | dict(values)


def teacher_of(declared: NamedTeacher | TeacherRun | Architecture, before: Subject, context: StepContext) -> Subject:
    """The subject that teaches in a step that began with the subject ``before``."""
    if declared == "before":
        return before
    if declared == "baseline":
        return context.baseline()
    if isinstance(declared, TeacherRun):
        teacher = declared.load(context)
        check_classes(f"teacher of {declared.run}", teacher.classes, before)
        return teacher
    assert isinstance(declared, Architecture)
    check_classes("teacher", declared.classes, before)
    return fresh(declared, before, context, trained=True)


def fresh(declared: Architecture, like: Subject, context: StepContext, *, trained: bool = False) -> Subject:
    """A subject of a declared architecture for the images and classes of another one."""
    from edgecr.subject import Subject

    size, code = like.input_shape[1:], context.execution.allow_code
    return Subject.create(declared, like.classes, size, context.seed, allow_code=code, trained=trained)


def check_classes(who: str, classes: int | None, subject: Subject) -> None:
    """Raises where a model was declared or found with another number of classes than the data has."""
    if classes not in (None, subject.classes):
        raise RequestError(
            f"The {who} knows {classes} classes, but the data has {subject.classes}; both must be equal."
        )
