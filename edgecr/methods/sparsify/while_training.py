"""Masking while a model is trained: gradual magnitude pruning (Zhu and Gupta 2017)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from edgecr.core.errors import RequestError
from edgecr.methods.sparsify.options import Cubic
from edgecr.methods.sparsify.ratios import cubic
from edgecr.training.observers import Observer
from edgecr.training.session import TrainingState


@dataclass(frozen=True)
class MaskingMoments:
    """The updates after which weights go, and the sparsity then."""

    schedule: Cubic
    final: float
    updates: int
    """Updates of the whole training."""

    @property
    def first(self) -> int:
        """The update after which the sparsity begins to rise."""
        return round(self.schedule.start * self.updates)

    @property
    def steps(self) -> int:
        """Times that it rises; a training too short for any is refused."""
        last = round(self.schedule.end * self.updates)
        steps = (last - self.first) // self.schedule.every
        if steps < 1:
            raise RequestError(
                f"Between update {self.first} and {last} of {self.updates} no {self.schedule.every} updates pass, so "
                "no weight would go. Lower when.every, or train longer."
            )
        return steps

    def sparsity_after(self, update: int) -> float | None:
        """The sparsity that is due after so many updates; None where nothing is."""
        number, rest = divmod(update - self.first, self.schedule.every)
        if rest or not 0 <= number <= self.steps:
            return self.schedule.initial if update == 0 else None
        return cubic(number, self.steps, self.schedule.initial, self.final)


class MaskingObserver(Observer):
    """Masks weights at the moments of a schedule; what is masked never returns."""

    def __init__(
        self, schedule: Cubic, final: float, choose: Callable[[nn.Module, float], Mapping[str, Tensor]]
    ) -> None:
        self.schedule, self.final, self.choose = schedule, final, choose

    def at_start(self, session: TrainingState) -> None:
        """Masks what is zero from the beginning; a training that was resumed has its masks."""
        self._moments(session).steps  # noqa: B018 - a training that is too short is refused now, not hours later
        if session.step_number == 0:
            self._mask_if_due(session)

    def after_step(self, session: TrainingState) -> None:
        """Masks weights when it is time."""
        self._mask_if_due(session)

    def _moments(self, session: TrainingState) -> MaskingMoments:
        return MaskingMoments(self.schedule, self.final, session.steps.total)

    def _mask_if_due(self, session: TrainingState) -> None:
        sparsity = self._moments(session).sparsity_after(session.step_number)
        if sparsity:
            session.masks.prune(self.choose(session.module, sparsity))
