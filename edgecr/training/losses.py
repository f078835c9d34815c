"""What a training minimises; each loss carries the state it needs."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgecr.training.order import STANDARD, place
from edgecr.weights import hash_tensors


class Loss(ABC):
    """A differentiable figure of how wrong a batch of answers is."""

    @abstractmethod
    def __call__(self, logits: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of the batch; called inside the training's autocast."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What tells this loss from another one, as plain JSON values."""

    def place(self, device: torch.device, size: tuple[int, int]) -> None:
        """Moves the loss's own state to where training runs on images of that height and width."""
        return


class CrossEntropy(Loss):
    """Cross-entropy with the labels."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """The mean over the batch."""
        return functional.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)

    def identity(self) -> dict[str, Any]:
        """Its smoothing."""
        return {"loss": "cross-entropy", "label_smoothing": self.label_smoothing}


class Distillation(Loss):
    """Hinton's loss, ``(1 - alpha) * cross-entropy + alpha * T^2 * KL``, with a frozen teacher."""

    def __init__(
        self,
        teacher: nn.Module,
        temperature: float,
        alpha: float,
        direction: Literal["forward", "reverse"] = "forward",
        label_smoothing: float = 0.0,
    ) -> None:
        self.teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
        self.order = STANDARD
        self.temperature, self.alpha, self.direction = temperature, alpha, direction
        self.hard = CrossEntropy(label_smoothing)

    def place(self, device: torch.device, size: tuple[int, int]) -> None:
        """Moves the teacher; it may need its images in another order than the student."""
        self.order = place(self.teacher, device, size)

    def __call__(self, logits: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """The weighted sum; a term of weight zero is not computed."""
        loss = logits.new_zeros(())
        if self.alpha < 1:
            loss = loss + (1 - self.alpha) * self.hard(logits, inputs, labels)
        if self.alpha > 0:
            with torch.no_grad():
                target = self.teacher(inputs.contiguous(memory_format=self.order))
            loss = loss + self.alpha * soft_loss(logits, target, self.temperature, self.direction)
        return loss

    def identity(self) -> dict[str, Any]:
        """Its weights and its teacher."""
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
    taught = functional.log_softmax(student.float() / temperature, dim=1)
    target = functional.log_softmax(teacher.float() / temperature, dim=1)
    first, second = (target, taught) if direction == "forward" else (taught, target)
    divergence = (first.exp() * (first - second)).sum(dim=1).mean()
    return divergence * temperature**2
