"""The record of a training, epoch by epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgecr.core.files import write_json


@dataclass
class Epoch:
    """One pass over the training images."""

    epoch: int
    loss: float
    accuracy: float | None
    """None where the images have no labels."""
    lr: float
    seconds: float
    validation: float | None = None
    """Accuracy on the validation images, where they were looked at."""


@dataclass
class History:
    """All epochs so far and the facts that were decided on this machine."""

    precision: str
    augment: str
    device: str
    steps_per_epoch: int
    epochs: list[Epoch] = field(default_factory=list)
    best: int | None = None
    """Index of the epoch with the best validation accuracy, the first of equals."""

    def validated(self, accuracy: float) -> bool:
        """Notes the last epoch's validation accuracy; whether it is the best so far."""
        self.epochs[-1].validation = accuracy
        before = None if self.best is None else self.epochs[self.best].validation
        if before is not None and accuracy <= before:
            return False
        self.best = len(self.epochs) - 1
        return True

    def score(self, keep: str) -> float | None:
        """The validation score of the model that was kept: of the best epoch, or of the last."""
        number = self.best if keep == "best" and self.best is not None else -1
        return self.epochs[number].validation if self.epochs else None

    def plain(self) -> dict[str, Any]:
        """The history as plain JSON values."""
        return {"schema": 1, **asdict(self)}

    def recall(self, values: dict[str, Any]) -> None:
        """Takes over the epochs of an earlier history's plain values; the facts stay this machine's."""
        self.epochs = [Epoch(**epoch) for epoch in values["epochs"]]
        self.best = values["best"]

    def save(self, folder: Path) -> None:
        """Writes ``history.json``."""
        write_json(folder / "history.json", self.plain())
