"""``edgecr report RUN``: judges a run anew from what lies in its folder."""

from __future__ import annotations

from pathlib import Path

import typer

from edgecr.cli.app import app
from edgecr.cli.options import RunArgument, Runs


@app.command()
def report(run: RunArgument = None, runs: Runs = Path("runs")) -> None:
    """Write report.json, report.md and report.html of a run, or of a judgement of files, again, and print them."""
    from edgecr.cli.options import chosen_run
    from edgecr.cli.show import show_judgement, show_result
    from edgecr.stages.judge import report as write
    from edgecr.stages.judge_case import Case, write_reports

    if run and (case := Case.at(run)):
        with case.run.writing():
            results = write_reports(case)
        raise typer.Exit(show_judgement(case.folder, results))

    chosen = chosen_run(run, runs)
    with chosen.writing():
        result = write(chosen)
    raise typer.Exit(show_result(chosen, result))
