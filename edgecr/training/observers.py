"""Observers of the updates: progress, validation, checkpoints. The loop itself knows none of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edgecr.core.errors import RequestError
from edgecr.core.progress import Bar, Monitor
from edgecr.training.checkpoint import Checkpoints
from edgecr.training.context import SNAPSHOTS
from edgecr.training.evaluate import right_answers
from edgecr.training.session import TrainingState
from edgecr.weights import write_tensors


class Observer:
    """Is called at the start, after every update and every epoch; this one does nothing."""

    def at_start(self, session: TrainingState) -> None:
        """The first update of this attempt comes next; an earlier state has been restored."""

    def after_step(self, session: TrainingState) -> None:
        """One update is done."""

    def after_epoch(self, session: TrainingState) -> None:
        """One epoch is done; its record is the last of the history."""


class Progress(Observer):
    """Shows loss and accuracy, and records each epoch in the run's log."""

    def __init__(self, bar: Bar, monitor: Monitor, done: int) -> None:
        self.bar, self.monitor, self.shown = bar, monitor, done

    def after_step(self, session: TrainingState) -> None:
        """Moves the bar on."""
        sums, epoch = session.totals, session.epoch + 1
        right = {"accuracy": f"{sums.accuracy:.1%}"} if session.setup.data.labelled else {}
        self._advance(session, epoch, loss=f"{sums.mean_loss:.3f}", **right)

    def after_epoch(self, session: TrainingState) -> None:
        """Shows the validation accuracy and logs the epoch."""
        record = session.history.epochs[-1]
        if record.validation is not None:
            self._advance(session, session.epoch, validation=f"{record.validation:.1%}")
        self.monitor.event("epoch", **asdict(record))

    def _advance(self, session: TrainingState, epoch: int, **facts: str) -> None:
        amount, self.shown = session.step_number - self.shown, session.step_number
        self.bar.advance(amount, epoch=f"{epoch}/{session.options.epochs}", **facts)


class Validation(Observer):
    """Looks at the validation images, and sets the best model aside when that is the one to keep.

    Several processes look at a share each, so that none waits for another; all of them have it do so.
    """

    def after_epoch(self, session: TrainingState) -> None:
        """Measures accuracy in the number format of the training."""
        data, options = session.setup.data, session.options
        due = session.finished or session.epoch % options.validate_every == 0
        if not due or not data.labelled or not len(data.validation):
            return
        session.share_buffers()
        with session.masks.applied():
            autocast, share = session.fabric.autocast(), session.share
            right = right_answers(
                session.module, data.validation, data.preprocessing, 256, autocast, share, task=data.task
            )
        found = float(session.summed(right)) / len(data.validation)
        if session.history.validated(found) and options.keep == "best":
            session.remember_best()


class Keeping(Observer):
    """Keeps the state of the model after some numbers of updates, for steps that go back to it."""

    def __init__(self, folder: Path, updates: Sequence[int]) -> None:
        self.folder, self.updates = folder / SNAPSHOTS, updates

    def at_start(self, session: TrainingState) -> None:
        """Refuses states that will never be; one before the first update is kept now."""
        if beyond := [update for update in self.updates if update > session.steps.total]:
            raise RequestError(
                f"snapshots: {beyond[0]} lies beyond the {session.steps.total} updates of this training."
            )
        if any(".parametrizations." in name for name in session.module.state_dict()):
            raise RequestError("snapshots of binary weights cannot be gone back to; take them before the weights are.")
        self._keep_if_due(session)

    def after_step(self, session: TrainingState) -> None:
        """Keeps the state if it is one that is wanted."""
        self._keep_if_due(session)

    def _keep_if_due(self, session: TrainingState) -> None:
        if session.step_number in self.updates and session.fabric.is_global_zero:
            write_tensors(self.folder / f"{session.step_number}.safetensors", session.module.state_dict())


class Saving(Observer):
    """Writes a checkpoint every few seconds, inside epochs too, and one at the end."""

    def __init__(self, checkpoints: Checkpoints, seconds: float) -> None:
        self.checkpoints, self.seconds = checkpoints, seconds
        self.last = time.monotonic()

    def after_step(self, session: TrainingState) -> None:
        """Saves when the time has come, except where the epoch's end is about to change the state."""
        if session.batch < session.steps.per_epoch:
            self._save_if_due(session)

    def after_epoch(self, session: TrainingState) -> None:
        """Saves when the time has come, and the finished state always."""
        self._save_if_due(session, now=session.finished)

    def _save_if_due(self, session: TrainingState, *, now: bool = False) -> None:
        if now or time.monotonic() - self.last >= self.seconds:
            self.checkpoints.save(session.state())
            self.last = time.monotonic()
