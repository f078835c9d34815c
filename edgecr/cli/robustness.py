"""``edgecr robustness RUN --suite S``: accuracy under corruptions, of the exported files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import console
from edgecr.cli.options import Quiet, RunArgument, Runs, Target


@app.command()
def robustness(
    run: RunArgument = None,
    suite: Annotated[str, typer.Option("--suite", help="Name of the suite.")] = "noise5",
    target: Target = None,
    images: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Use only that many test images; the recipe's number when left out."),
    ] = None,
    runs: Runs = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Show a run's exported baseline and candidate the same corrupted test images.

    With another suite, target or number of images than the recipe's, the result is kept apart and not judged.
    """

    from edgecr.api.measuring import robustness_of_run
    from edgecr.api.runs import chosen_run
    from edgecr.core.display import TerminalMonitor
    from edgecr.report.build import accuracy_rows
    from edgecr.report.render.terminal import TableView
    from edgecr.report.result import Result
    from edgecr.report.tables import accuracy_tables
    from edgecr.stages.asked import Asked

    chosen = chosen_run(run, runs)
    answered = robustness_of_run(chosen, suite, target, images, TerminalMonitor(quiet))
    recipe = Asked.of(chosen).recipe
    shown = Result(recipe.name, chosen.folder.name, accuracy=accuracy_rows(answered, recipe.gates))
    for table in accuracy_tables(shown):
        console().print(TableView(table))
