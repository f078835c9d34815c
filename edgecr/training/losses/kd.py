"""Knowledge distillation (Hinton et al. 2015): a student learns a teacher's softened answers beside the labels."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from edgecr.core.options import Options
from edgecr.training.losses.base import Loss, LossOptions, losses
from edgecr.training.losses.cross_entropy import CrossEntropy, Smoothing, right
from edgecr.training.losses.teachers import Teacher, completed, teacher_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from edgecr.subject import Subject
    from edgecr.training.context import StepContext

Direction = Literal["forward", "reverse"]


class SoftAnswers(Options):
    """The weight of a teacher's softened answers, and how they are compared."""

    temperature: Annotated[float, Field(gt=0)] = 4.0
    """Divisor of the logits before the softmax; larger values soften the answers that are compared."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Weight of the teacher's answers; the labels have the rest."""
    direction: Direction = "forward"
    """forward: KL(teacher || student), Hinton's; reverse: KL(student || teacher)."""


@losses.register("kd")
class DistillationOptions(SoftAnswers, LossOptions):
    """Knowledge distillation: cross-entropy with the labels, and a teacher's softened answers (Hinton et al. 2015)."""

    teacher: Teacher = "baseline"
    """The teacher: ``baseline`` (of this run), ``before`` (the model before this step), ``{run: DIR}``,
    ``{weights: FILE, ...}`` or ``{pretrained: true, ...}``."""
    label_smoothing: Smoothing = 0.0
    """Share of the labels' target that is spread over all classes."""

    @classmethod
    def resolve(cls, options: dict[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Completes a partly described teacher from the recipe's model, except its weights."""
        teacher = options.get("teacher")
        return options | {"teacher": completed(teacher, recipe)} if isinstance(teacher, Mapping) else options

    @property
    def reads_baseline(self) -> bool:
        """True where the baseline teaches."""
        return self.teacher == "baseline"

    @property
    def needs_labels(self) -> bool:
        """True unless the teacher's answers have all the weight."""
        return self.alpha < 1

    def build(self, before: Subject, context: StepContext) -> Loss:
        """Loads the teacher."""
        teacher = teacher_of(self.teacher, before, context)
        return Distillation(teacher.module, self.temperature, self.alpha, self.direction, self.label_smoothing)


class Distillation(Loss):
    """Hinton's loss, ``(1 - alpha) * cross-entropy + alpha * T^2 * KL``, with a frozen teacher."""

    def __init__(
        self,
        teacher: nn.Module,
        temperature: float,
        alpha: float,
        direction: Direction = "forward",
        label_smoothing: float = 0.0,
    ) -> None:
        from edgecr.training.order import STANDARD

        self.teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
        self.order = STANDARD
        self.temperature, self.alpha, self.direction = temperature, alpha, direction
        self.hard = CrossEntropy(label_smoothing)

    def place(self, device: torch.device, size: tuple[int, int]) -> None:
        """Moves the teacher; it may need its images in another order than the student."""
        from edgecr.training.order import place

        self.order = place(self.teacher, device, size)

    def step(self, model: nn.Module, views: Sequence[Tensor], targets: Any) -> tuple[Tensor, Tensor]:
        """The weighted sum on the first view; a term of weight zero is not computed."""
        logits = model(views[0])
        loss = logits.new_zeros(())
        if self.alpha < 1:
            loss = loss + (1 - self.alpha) * self.hard.of(logits, targets)
        if self.alpha > 0:
            wanted = self._taught(views[0])
            loss = loss + self.alpha * soft_loss(logits, wanted, self.temperature, self.direction)
        return loss, right(logits, targets)

    def _taught(self, images: Tensor) -> Tensor:
        """The teacher's answers."""
        import torch

        with torch.no_grad():
            answers: Tensor = self.teacher(images.contiguous(memory_format=self.order))
        return answers

    def identity(self) -> dict[str, Any]:
        """Its weights and its teacher."""
        from edgecr.weights import hash_tensors

        return {
            "loss": "distillation",
            "temperature": self.temperature,
            "alpha": self.alpha,
            "direction": self.direction,
            "label_smoothing": self.hard.label_smoothing,
            "teacher": hash_tensors(self.teacher.state_dict()),
        }


def soft_loss(student: Tensor, teacher: Tensor, temperature: float, direction: str = "forward") -> Tensor:
    """``T^2 * KL`` of softened answers, summed over classes and averaged over the batch."""
    from torch.nn import functional

    taught = functional.log_softmax(student.float() / temperature, dim=1)
    target = functional.log_softmax(teacher.float() / temperature, dim=1)
    first, second = (target, taught) if direction == "forward" else (taught, target)
    divergence = (first.exp() * (first - second)).sum(dim=1).mean()
    return divergence * temperature**2
