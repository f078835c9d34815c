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

    from edgecr.cli.display import TerminalMonitor
    from edgecr.cli.options import chosen_run
    from edgecr.data.views import HeldOutData
    from edgecr.exporters import load_target
    from edgecr.report.build import accuracy_rows
    from edgecr.report.render.terminal import TableView
    from edgecr.report.result import Result
    from edgecr.report.tables import accuracy_tables
    from edgecr.stages.asked import Asked
    from edgecr.stages.reload import load_again
    from edgecr.stages.robustness import robustness as evaluate

    chosen = chosen_run(run, runs)
    asked = Asked.of(chosen)
    recipe, name = asked.recipe, load_target(target).name if target else asked.names[0]
    wanted = images or recipe.robustness.images
    monitor = TerminalMonitor(quiet)
    data = HeldOutData.of(load_again(chosen, monitor))
    with chosen.writing():
        answered = evaluate(chosen, suite, name, data, wanted, monitor)
    shown = Result(recipe.name, chosen.folder.name, accuracy=accuracy_rows(answered, recipe.gates))
    for table in accuracy_tables(shown):
        console().print(TableView(table))
