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
    from edgecr.runners.manner import Length


What = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Argument(help="A run folder, one exported file, or two (baseline first); the latest run when left out."),
]
Devices = Annotated[
    str, typer.Option("--device", help="Device, by name or path; several, separated by commas, at once.")
]
Batches = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--batch", help="Batch sizes, separated by commas; a run's own, or 1 for files, when left out."),
]
Runtime = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--runtime", help="Runtime of bare files; the device's first that runs them when left out."),
]
Launches = Annotated[Optional[int], typer.Option(min=1, help="Fresh processes to measure in.")]  # noqa: UP045
Rounds = Annotated[Optional[int], typer.Option(min=1, help="Turns of each model in a process.")]  # noqa: UP045
Quick = Annotated[bool, typer.Option("--quick", help="Seconds: 3 launches of 10 short rounds.")]
Standard = Annotated[bool, typer.Option("--standard", help="For a claim: 5 launches of 30 rounds.")]
Sustained = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--sustained", metavar="MINUTES", help="One launch of so many minutes, at least 2, shown minute by minute."
    ),
]
MlperfLength = Annotated[
    bool, typer.Option("--mlperf-length", help="One launch of 10 minutes; no more of MLPerf than its length.")
]
Threads = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--threads", help="Numbers of threads, separated by commas: files are measured with each."),
]
Streams = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--streams", help="Numbers of inferences at once, separated by commas, for throughput."),
]
Layers = Annotated[bool, typer.Option("--layers", help="Tell the time of every layer too.")]
Force = Annotated[
    bool, typer.Option("--force", help="Measure a board that is not as its file expects; the result says so.")
]
Output = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--output", "-o", help="Write the raw measurement there; of several devices, one file each."),
]


@app.command()
def profile(
    what: What = None,
    device: Devices = "cpu",
    batch: Batches = None,
    runtime: Runtime = None,
    launches: Launches = None,
    rounds: Rounds = None,
    quick: Quick = False,
    standard: Standard = False,
    sustained: Sustained = None,
    mlperf_length: MlperfLength = False,
    threads: Threads = None,
    streams: Streams = None,
    layers: Layers = False,
    force: Force = False,
    output: Output = None,
    target: Target = None,
    runs: Runs = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Measure exported files where they will run; two files are measured interleaved, as a paired ratio.

    Of a run: with other options than its recipe's, the result is kept apart and not judged.
    """
    from edgecr.api.measuring import measured, raise_failure
    from edgecr.api.sweeping import swept
    from edgecr.core.display import TerminalMonitor
    from edgecr.core.errors import RequestError, SomeRaised
    from edgecr.report.length_tables import thread_table
    from edgecr.report.render.terminal import TableView
    from edgecr.runners.manner import Manner

    sizes = _numbers("--batch", batch) if batch is not None else None
    manner = Manner(
        length=_length(quick, standard, sustained, mlperf_length),
        streams=_numbers("--streams", streams) if streams is not None else (),
        layers=layers,
        force=force,
    )
    monitor, names = TerminalMonitor(quiet), _names(device)
    if threads is not None:
        if output or len(names) > 1:
            raise RequestError("--output and several devices take one measurement each; --threads makes several.")
        counts = _numbers("--threads", threads)
        found = swept(what, names[0], counts, sizes, runtime, launches, rounds, monitor, manner)
        console().print(TableView(thread_table(found)))
        return
    failure = None
    try:
        measurements = measured(what, names, sizes, runtime, launches, rounds, target, runs, monitor, manner)
    except SomeRaised as error:
        measurements, failure = dict(error.found), error
    for name, measurement in measurements.items():
        if output:
            measurement.save(output if len(set(names)) == 1 else _beside(output, name))
        _show(measurement)
    if failure:
        raise failure
    raise_failure(*measurements.values())


def _beside(output: Path, device: str) -> Path:
    """The file of one of several devices."""
    return output.with_stem(f"{output.stem}-{Path(device).stem}")


def _names(text: str) -> list[str]:
    from edgecr.core.errors import RequestError

    names = [part.strip() for part in text.split(",")]
    if not all(names):
        raise RequestError(f"--device {text}: give names, separated by commas, for example cpu,my-board")
    stems = [Path(name).stem for name in dict.fromkeys(names)]
    if len(set(stems)) < len(stems):
        raise RequestError(f"--device {text}: two of them are called the same; measure them one after the other.")
    return names


def _numbers(option: str, text: str) -> tuple[int, ...]:
    from edgecr.core.errors import RequestError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise RequestError(f"{option} {text}: give whole numbers from 1 up, separated by commas, for example 1,4")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _length(quick: bool, standard: bool, sustained: float | None, mlperf: bool) -> Length | None:
    """The one preset that was asked for."""
    from edgecr.core.errors import RequestError
    from edgecr.runners.manner import Length

    asked = [
        length
        for wanted, length in (
            (quick, Length("quick")),
            (standard, Length("standard")),
            (sustained is not None, Length("sustained", sustained) if sustained is not None else None),
            (mlperf, Length("mlperf")),
        )
        if wanted
    ]
    if len(asked) > 1:
        raise RequestError("--quick, --standard, --sustained and --mlperf-length exclude one another.")
    return asked[0] if asked else None


def _show(measurement: Measurement) -> None:
    """Prints the tables that have figures."""
    from edgecr.report.engine_tables import engine_tables
    from edgecr.report.latency_rows import latency_rows
    from edgecr.report.length_tables import further_tables
    from edgecr.report.render.terminal import TableView
    from edgecr.report.result import Result
    from edgecr.report.tables import latency_table, minute_tables, start_table

    screen = console()
    shown = Result(measurement.device.name, "", latency=latency_rows(measurement))
    tables = [
        latency_table(shown),
        start_table(shown),
        *engine_tables(shown),
        *minute_tables(shown),
        *further_tables(measurement),
    ]
    for table in tables if measurement.launches else ():
        if table.rows:
            screen.print(TableView(table))
