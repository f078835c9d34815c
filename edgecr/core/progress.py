"""Messages and progress of long work; the command line decides how to show them."""

from __future__ import annotations

from typing import Any


class Bar:
    """One running task; this silent version is the base of every display."""

    def advance(self, amount: float = 1, **facts: str) -> None:
        """Moves the task on; ``facts`` are short texts such as loss or accuracy."""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Monitor:
    """Receives events and progress; the default one says nothing."""

    def say(self, text: str) -> None:
        """Tells the user one line."""

    def warn(self, text: str) -> None:
        """Tells the user one line that must not be missed."""

    def event(self, kind: str, **facts: Any) -> None:
        """Records one fact for the run's log."""

    def bar(self, label: str, total: float, done: float = 0) -> Bar:
        """Opens a progress bar; use it as a context manager."""
        return Bar()
