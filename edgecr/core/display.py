"""Shows tables and progress on a terminal, and plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from typing_extensions import override

from edgecr.core.printable import printable
from edgecr.core.progress import Bar, Monitor

_PLAIN_EVERY_S = 15.0


class SafeConsole(Console):
    """A console that prints foreign text as text: no markup in it counts, no control character reaches the terminal."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)


class TerminalMonitor(Monitor):
    """Prints lines to stderr and draws bars when stderr is a terminal."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = SafeConsole(stderr=True)
        self._bars = self.console.is_terminal and not quiet
        self._quiet = quiet

    @override
    def say(self, text: str) -> None:
        self.console.print(text)

    @override
    def warn(self, text: str) -> None:
        self.console.print(f"Warning: {text}", style="yellow")

    @override
    def bar(self, label: str, total: float, done: float = 0) -> Bar:
        if self._quiet:
            return Bar()
        return _LiveBar(self.console, label, total, done) if self._bars else _LineBar(self, label, total, done)


class WarningMonitor(TerminalMonitor):
    """Prints warnings to stderr and nothing else."""

    def __init__(self) -> None:
        super().__init__(quiet=True)

    @override
    def say(self, text: str) -> None:
        return


class _LiveBar(Bar):
    def __init__(self, console: Console, label: str, total: float, done: float) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            console=console,
            transient=False,
        )
        self._task: TaskID = self._progress.add_task(label, total=total, completed=int(done), facts="")

    def advance(self, amount: float = 1, **facts: str) -> None:
        text = "  ".join(f"{name} {value}" for name, value in facts.items())
        self._progress.update(self._task, advance=amount, **({"facts": text} if text else {}))  # type: ignore[arg-type]

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


class _LineBar(Bar):
    """A line now and then, for logs."""

    def __init__(self, monitor: TerminalMonitor, label: str, total: float, done: float) -> None:
        self._monitor, self._label, self._total, self._done = monitor, label, total, done
        self._next = time.monotonic() + _PLAIN_EVERY_S
        self._facts: dict[str, str] = {}

    def advance(self, amount: float = 1, **facts: str) -> None:
        self._done += amount
        self._facts |= facts
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PLAIN_EVERY_S
            self._print()

    def _print(self) -> None:
        facts = "  ".join(f"{name} {value}" for name, value in self._facts.items())
        self._monitor.say(f"{self._label}: {self._done:.0f}/{self._total:.0f}  {facts}".rstrip())

    def __exit__(self, *_: object) -> None:
        self._print()
