"""``edgecr robustness RUN --suite S``: accuracy under corruptions, of the exported files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from edgecr.cli.app import app
from edgecr.cli.options import Quiet, RunArgument, Runs, Target


@app.command()
def robustness(
    run: RunArgument = None,
    suite: Annotated[str, typer.Option("--suite", help="Name of the suite.")] = "noise5",
    target: Target = None,
    images: Annotated[Optional[int], typer.Option(min=1, help="Use only that many test images.")] = None,  # noqa: UP045
    runs: Runs = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Show a run's exported baseline and candidate the same corrupted test images."""
    from rich.console import Console

    from edgecr.cli.display import TerminalMonitor
    from edgecr.cli.options import chosen_run
    from edgecr.exporters import load_target
    from edgecr.recipe import Recipe
    from edgecr.report.build import accuracy_rows
    from edgecr.report.result import Result
    from edgecr.report.tables import accuracy_tables
    from edgecr.report.terminal import TableView
    from edgecr.run_data import load_again
    from edgecr.stages import robustness as evaluate

    chosen = chosen_run(run, runs)
    recipe = Recipe.parse(chosen.record["recipe"])
    name = load_target(target or recipe.export[0]).name
    wanted = images or recipe.robustness.images
    monitor = TerminalMonitor(quiet)
    data = load_again(chosen, monitor)
    with chosen.writing():
        answered = evaluate(chosen, suite, name, data, wanted, recipe.seed, monitor)
    shown = Result(recipe.name, chosen.folder.name, accuracy=accuracy_rows(answered, recipe.gates))
    for table in accuracy_tables(shown):
        Console().print(TableView(table))
