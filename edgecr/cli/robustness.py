"""``edgecr robustness [RUN|FILE…] --suite S``: accuracy under corruptions, of the exported files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import console
from edgecr.cli.options import Quiet, Runs, Target

if TYPE_CHECKING:
    from edgecr.core.progress import Monitor
    from edgecr.report.result import Result
    from edgecr.runners.device import Device


@app.command()
def robustness(
    what: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(help="A run folder, one exported file, or two (baseline first); the latest run when left out."),
    ] = None,
    suite: Annotated[str, typer.Option("--suite", help="Name of the suite.")] = "noise5",
    target: Target = None,
    device: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--device", help="Answer in this device's runtime with its settings; a board answers itself."),
    ] = None,
    images: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Use only that many test images; the recipe's number when left out."),
    ] = None,
    data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--data", help="Images for files that lie in no run: a folder, or the name of a dataset."),
    ] = None,
    runs: Runs = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Show a run's exported baseline and candidate, or files, the same corrupted test images.

    With another suite, target, device or number of images than the recipe's, the result is kept apart and not judged.
    """

    from edgecr.core.display import TerminalMonitor
    from edgecr.core.errors import RequestError
    from edgecr.report.render.terminal import TableView
    from edgecr.report.tables import accuracy_tables
    from edgecr.runners.base import usable_device

    given, monitor = what or [], TerminalMonitor(quiet)
    chosen = usable_device(device) if device else None
    if given and given[0].is_file():
        shown = _files(given, suite, data, images, chosen, monitor)
    elif data is not None:
        raise RequestError("--data is for exported files; a run is shown its own test images.")
    else:
        shown = _run(given[0] if given else None, runs, suite, target, images, chosen, monitor)
    for table in accuracy_tables(shown):
        console().print(TableView(table))


def _files(
    files: list[Path], suite: str, data: str | None, images: int | None, device: Device | None, monitor: Monitor
) -> Result:
    from edgecr.report.build import accuracy_rows
    from edgecr.report.result import Result
    from edgecr.stages.file_answers import answers_of_files

    answered = answers_of_files(files, suite, data, images, device, monitor)
    return Result(files[-1].name, "", accuracy=accuracy_rows(answered, {}), labelled=answered.labelled)


def _run(
    given: Path | None,
    runs: Path,
    suite: str,
    target: str | None,
    images: int | None,
    device: Device | None,
    monitor: Monitor,
) -> Result:
    from edgecr.api.measuring import robustness_of_run
    from edgecr.api.runs import chosen_run
    from edgecr.report.build import accuracy_rows
    from edgecr.report.result import Result
    from edgecr.stages.asked import Asked

    chosen = chosen_run(given, runs)
    answered = robustness_of_run(chosen, suite, target, images, monitor, device)
    recipe = Asked.of(chosen).recipe
    rows = accuracy_rows(answered, recipe.gates)
    return Result(recipe.name, chosen.folder.name, accuracy=rows, labelled=answered.labelled)
