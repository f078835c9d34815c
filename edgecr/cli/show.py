"""Prints results the same way for every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgecr.report.result import Result
    from edgecr.run import Run


def show_result(run: Run, result: Result) -> int:
    """Prints a run's result and where its report lies; returns the exit code."""
    from rich.console import Console

    from edgecr.report.terminal import render

    console = Console()
    console.print(render(result))
    console.print(f"Report: {run.folder / 'report.html'}", highlight=False, soft_wrap=True)
    return result.exit_code
