"""``edgecr profile [RUN|FILE…]``: latency, throughput, memory and size, measured on the device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import console
from edgecr.cli.options import Quiet, Runs, Target

if TYPE_CHECKING:
    from edgecr.runners.base import Measurement


@app.command()
def profile(
    what: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(help="A run folder, one exported file, or two (baseline first); the latest run when left out."),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Device, by name or path; several, separated by commas, at once.")
    ] = "cpu",
    batch: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--batch", help="Batch sizes, separated by commas; a run's own, or 1 for files, when left out."),
    ] = None,
    runtime: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--runtime", help="Runtime of bare files; the device's first that runs them when left out."),
    ] = None,
    launches: Annotated[Optional[int], typer.Option(min=1, help="Fresh processes to measure in.")] = None,  # noqa: UP045
    rounds: Annotated[Optional[int], typer.Option(min=1, help="Turns of each model in a process.")] = None,  # noqa: UP045
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Write the raw measurement there; of several devices, one file each."),
    ] = None,
    target: Target = None,
    runs: Runs = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Measure exported files where they will run; two files are measured interleaved, as a paired ratio.

    Of a run: with other options than its recipe's, the result is kept apart and not judged.
    """
    from edgecr.api.measuring import measured, raise_failure
    from edgecr.core.display import TerminalMonitor

    sizes = _batches(batch) if batch is not None else None
    found = measured(what, _names(device), sizes, runtime, launches, rounds, target, runs, TerminalMonitor(quiet))
    for name, measurement in found.items():
        if output:
            measurement.save(output if len(found) == 1 else output.with_stem(f"{output.stem}-{Path(name).stem}"))
        _show(measurement)
    raise_failure(*found.values())


def _names(text: str) -> list[str]:
    from edgecr.core.errors import RequestError

    names = [part.strip() for part in text.split(",")]
    if not all(names):
        raise RequestError(f"--device {text}: give names, separated by commas, for example cpu,my-board")
    return names


def _batches(text: str) -> tuple[int, ...]:
    from edgecr.core.errors import RequestError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise RequestError(f"--batch {text}: give whole numbers from 1 up, separated by commas, for example 1,256")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _show(measurement: Measurement) -> None:
    """Prints the tables that have figures."""
    from edgecr.report.engine_tables import engine_tables
    from edgecr.report.latency_rows import latency_rows
    from edgecr.report.render.terminal import TableView
    from edgecr.report.result import Result
    from edgecr.report.tables import latency_table, start_table

    screen = console()
    shown = Result(measurement.device.name, "", latency=latency_rows(measurement))
    found = [latency_table(shown), start_table(shown), *engine_tables(shown)]
    for table in found if measurement.launches else ():
        if table.rows:
            screen.print(TableView(table))
