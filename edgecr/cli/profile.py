"""``edgecr profile [RUN|FILE…]``: latency, throughput, memory and size, measured on the device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import console
from edgecr.cli.options import Quiet, Runs, Target

if TYPE_CHECKING:
    from edgecr.core.progress import Monitor
    from edgecr.runners.base import Measurement, Runner


@app.command()
def profile(
    what: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(help="A run folder, one exported file, or two (baseline first); the latest run when left out."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Device, by name or path.")] = "cpu",
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
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="Write the raw measurement there.")] = None,  # noqa: UP045
    target: Target = None,
    runs: Runs = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Measure exported files where they will run; two files are measured interleaved, as a paired ratio.

    Of a run: with other options than its recipe's, the result is kept apart and not judged.
    """
    from edgecr.cli.display import TerminalMonitor
    from edgecr.runners.base import load_device, runner_for

    declared = load_device(device)
    runner = runner_for(declared)  # a device that nobody configured is refused before anything else
    batches, monitor = _batches(batch) if batch is not None else None, TerminalMonitor(quiet)
    given = what or []
    if given and given[0].is_file():
        measurement = _files(given, batches or (1,), runtime, launches, rounds, runner, monitor)
    else:
        measurement = _run(given, runs, device, target, batches, launches, rounds, monitor)
    if output:
        measurement.save(output)
    _show(measurement)


def _batches(text: str) -> tuple[int, ...]:
    from edgecr.core.errors import RequestError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise RequestError(f"--batch {text}: give whole numbers from 1 up, separated by commas, for example 1,256")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _files(
    files: Sequence[Path],
    batches: tuple[int, ...],
    runtime: str | None,
    launches: int | None,
    rounds: int | None,
    runner: Runner,
    monitor: Monitor,
) -> Measurement:
    from edgecr.runners.base import MeasurePlan
    from edgecr.stages.files import named_files, shared_runtime

    artifacts = named_files(files)
    models = {role: artifact.path for role, artifact in artifacts.items()}
    beside = {role: artifact.beside for role, artifact in artifacts.items()}
    where = runtime or shared_runtime(artifacts, runner.device)
    plan = MeasurePlan.of(models, batches, where, launches=launches, rounds=rounds, beside=beside)
    return runner.measure(plan, monitor)


def _run(
    given: Sequence[Path],
    runs: Path,
    device: str,
    target: str | None,
    batches: tuple[int, ...] | None,
    launches: int | None,
    rounds: int | None,
    monitor: Monitor,
) -> Measurement:
    from edgecr.cli.options import chosen_run
    from edgecr.exporters import load_target
    from edgecr.stages.asked import Asked
    from edgecr.stages.measure import measure

    chosen = chosen_run(given[0] if given else None, runs)
    name = load_target(target).name if target else Asked.of(chosen).names[0]
    with chosen.writing():
        return measure(chosen, device, name, batches, monitor, launches=launches, rounds=rounds)


def _show(measurement: Measurement) -> None:
    """Prints the tables that have figures; a failure of the device ends the command."""
    from edgecr.core.errors import DeviceFailed
    from edgecr.report.latency_rows import latency_rows
    from edgecr.report.render.terminal import TableView
    from edgecr.report.result import Result
    from edgecr.report.tables import latency_table, start_table

    screen = console()
    shown = Result(measurement.device.name, "", latency=latency_rows(measurement))
    for table in (latency_table(shown), start_table(shown)) if measurement.launches else ():
        if table.rows:
            screen.print(TableView(table))
    if measurement.error:
        raise DeviceFailed(f"{measurement.device.name}: {measurement.error}")
