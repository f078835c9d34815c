"""Prints results the same way for every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecr.cli.echo import console

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgecr.report.result import Result
    from edgecr.run import Run


def show_result(run: Run, result: Result) -> int:
    """Prints a run's result and where its report lies; returns the exit code."""

    from edgecr.report.render.terminal import render

    screen = console()
    screen.print(render(result))
    screen.print(f"Report: {run.folder / 'report.html'}", soft_wrap=True)
    return result.exit_code


def show_judgement(folder: Path, results: Sequence[Result]) -> int:
    """Prints the results of judged files and where their report lies; returns the exit code."""

    from edgecr.report.overview import answer, overview_table
    from edgecr.report.render.terminal import TableView, render, verdict_panel

    screen = console()
    if len(results) == 1:
        screen.print(render(results[0]))
    else:
        for result in results:
            screen.print(result.name)
            screen.print(verdict_panel(result))
        screen.print(TableView(overview_table(results)))
        screen.print(answer(results))
    screen.print(f"Report: {folder / 'report.html'}", soft_wrap=True)
    return min(result.exit_code for result in results)
