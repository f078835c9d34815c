"""A short training at a low learning rate: what heals a model after it was cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from edgecr.methods.base import methods
from edgecr.methods.train import Train
from edgecr.training.context import StepContext

if TYPE_CHECKING:
    from edgecr.subject import Subject

_GENTLER, _GENTLEST = 10, 25


@methods.register("finetune")
class FineTune(Train):
    """Train on for a few epochs at a tenth of the usual learning rate, or less after a repair."""

    epochs: Annotated[int, Field(ge=1)] = 15
    """Passes over the training images."""

    gentle: bool = False
    """Start at a 25th of the usual rate instead: a higher one throws a repair away. On behind a repaired pruning."""

    @classmethod
    def resolve(cls, options: dict[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Is gentle behind a repair, unless a rate was given."""
        if not {"gentle", "lr"} & options.keys():
            # written down in either case, so that the next step with the same options is not taken for this one
            options = {**options, "gentle": _behind_a_repair(options, recipe.get("steps"))}
        return super().resolve(options, recipe)

    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Trains the subject's own tensors in place."""
        if self.gentle and self.lr is None:
            context.monitor.say(f"The learning rate starts at {self.rate:g}: a higher one would throw the repair away.")
        return super().apply(subject, context)

    @property
    def rate(self) -> float:
        """The peak learning rate; a tenth of training's own one when none was given, a 25th where it is gentle."""
        return super().rate if self.lr is not None else super().rate / (_GENTLEST if self.gentle else _GENTLER)


def _behind_a_repair(options: Mapping[str, Any], steps: Any) -> bool:
    """True if a repair, or a pruning with one, is what came last before the finetune step with these options."""
    behind = False
    for step in steps if isinstance(steps, list) else []:
        for name, given in step.items() if isinstance(step, Mapping) else ():
            if name == "finetune" and (given or {}) == options:
                return behind
            behind = name == "repair" or (name in ("prune", "sparsify") and _repairs(given))
    return False


def _repairs(pruning: Any) -> bool:
    """True if the raw options of a pruning lead to a repair."""
    options = pruning if isinstance(pruning, Mapping) else {}
    when = options.get("when")
    at_once = when is None or (isinstance(when, Mapping) and when.get("kind") == "oneshot")
    return at_once and options.get("repair") is not False
