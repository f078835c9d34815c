"""Prints results the same way for every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecr.cli.echo import console

if TYPE_CHECKING:
    from edgecr.report.result import Result
    from edgecr.run import Run


def show_result(run: Run, result: Result) -> int:
    """Prints a run's result and where its report lies; returns the exit code."""

    from edgecr.report.render.terminal import render

    screen = console()
    screen.print(render(result))
    screen.print(f"Report: {run.folder / 'report.html'}", soft_wrap=True)
    return result.exit_code
