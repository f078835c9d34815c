"""The options of a training. Torch-free: recipes are checked with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from edgecr.core.options import Options
from edgecr.training.augmentations import AugmentationName
from edgecr.training.losses import AnyLoss, CrossEntropyOptions, Loss, LossOptions
from edgecr.training.sharpness.options import AnySharpness

if TYPE_CHECKING:
    from edgecr.subject import Subject
    from edgecr.training.context import StepContext

Positive = Annotated[float, Field(gt=0)]

RATES = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3}
"""The learning rate of each optimiser when none is given."""

_OWNED = {
    "momentum": ("optimiser", "sgd"),
    "nesterov": ("optimiser", "sgd"),
    "milestones": ("schedule", "multistep"),
    "gamma": ("schedule", "multistep"),
    "power": ("schedule", "poly"),
}


class TrainOptions(Options):
    """The settings of a training: epochs, batches, optimiser, learning rate, loss and more."""

    epochs: Annotated[int, Field(ge=1)] = 100
    """Passes over the training images."""
    batch: Annotated[int, Field(ge=2)] = 128
    """Images in one update, over all devices together."""
    lr: Positive | None = None
    """Peak learning rate; 0.1 for sgd, 0.001 for adam and adamw when left out."""
    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    """The rule that turns gradients into updates."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of sgd."""
    nesterov: bool = False
    """Nesterov's form of momentum, for sgd."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """Pull towards zero; part of the gradient for sgd and adam, decoupled for adamw."""
    decay_norm: bool = True
    """Apply weight decay also to biases and to the scales and shifts of normalisations."""
    schedule: Literal["cosine", "multistep", "poly", "constant", "onecycle"] = "cosine"
    """Schedule of the learning rate over the training."""
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Epochs at which multistep multiplies the learning rate by gamma."""
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Factor of multistep at each milestone."""
    power: Positive = 0.9
    """Exponent of poly."""
    warmup: Annotated[float, Field(ge=0)] = 0.0
    """Epochs in which the learning rate rises linearly from zero; for onecycle the length of its rise."""
    loss: AnyLoss | None = None
    """The quantity that is minimised: a loss by its name, with its settings below it; cross-entropy with the labels
    when left out."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all classes; the loss's key of this name, written here."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; longer ones are scaled down to it."""
    sharpness: AnySharpness | None = None
    """Seeks a flat minimum, at twice the cost: ``sam``, ``asam``, ``adasap``, or one with settings."""
    augment: AugmentationName | None = None
    """Random changes to training images; what suits the data set when left out."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the forward pass; auto takes bf16 where the processor computes in it."""
    checkpoint_s: Positive = 15.0
    """Seconds between checkpoints, inside epochs too."""
    validate_every: Annotated[int, Field(ge=1)] = 1
    """Epochs between two looks at the validation images; the last epoch is always looked at."""
    keep: Literal["last", "best"] = "last"
    """Epoch whose model is the result: the last one, or the best one on the validation images."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = [*self._misplaced(), *self._schedule_problems(), *self._smoothing_problems()]
        if self.nesterov and self.momentum == 0:
            problems.append("nesterov needs a momentum above 0")
        if self.sharpness is not None and self.sharpness.epochs > self.epochs:
            problems.append(f"the phases take {self.sharpness.epochs} of {self.epochs} epochs")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _misplaced(self) -> list[str]:
        return [
            f"{key} belongs to {axis}: {owner}, but {axis} is {getattr(self, axis)}"
            for key, (axis, owner) in _OWNED.items()
            if key in self.model_fields_set
            and getattr(self, key) != type(self).model_fields[key].default
            and getattr(self, axis) != owner
        ]

    def _schedule_problems(self) -> list[str]:
        problems = []
        marks = self.milestones
        if self.schedule == "multistep" and not marks:
            problems.append("schedule: multistep needs milestones, e.g. [30, 60, 80]")
        if list(marks) != sorted(set(marks)):
            problems.append("milestones must rise")
        if marks and max(marks) >= self.epochs:
            problems.append(f"milestone {max(marks)} lies at or beyond the last of {self.epochs} epochs")
        if self.warmup >= self.epochs:
            problems.append(f"warmup of {self.warmup:g} epochs leaves nothing of {self.epochs} epochs")
        return problems

    def _smoothing_problems(self) -> list[str]:
        if self.loss is None or not self.label_smoothing:
            return []
        if "label_smoothing" not in type(self.loss).model_fields:
            return ["label_smoothing does nothing with this loss; leave it out"]
        twice = "label_smoothing" in self.loss.model_fields_set
        return ["label_smoothing stands here and in loss; leave one of them out"] if twice else []

    @property
    def minimised(self) -> LossOptions:
        """The declared loss, the usual one when none was named."""
        return self.loss or CrossEntropyOptions()

    @property
    def needs_labels(self) -> bool:
        """True where the loss looks at labels, or the best epoch is chosen by them."""
        return self.keep == "best" or self.minimised.needs_labels

    def build_loss(self, before: Subject, context: StepContext) -> Loss:
        """The loss of a training in a step that began with the subject ``before``."""
        smoothing = {"label_smoothing": self.label_smoothing} if self.label_smoothing else {}
        return self.minimised.model_copy(update=smoothing).build(before, context)

    @property
    def rate(self) -> float:
        """The peak learning rate, the optimiser's own one when none was given."""
        return RATES[self.optimiser] if self.lr is None else self.lr
