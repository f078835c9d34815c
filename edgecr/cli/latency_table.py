"""``edgecr latency-table``: what each layer of a model takes on a device, measured there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import echo
from edgecr.cli.options import AllowCode, Classes, ModelName, Quiet, Settings, Size, named_subject
from edgecr.training.context import PLAIN_FILES

if TYPE_CHECKING:
    from edgecr.latency import LatencyTable
    from edgecr.latency_builder.fill import Filled
    from edgecr.runners.device import Device
    from edgecr.subject import Subject

table_app = typer.Typer(
    help="Measure, show and use latency tables: what each layer takes on a device.", no_args_is_help=True
)
app.add_typer(table_app, name="latency-table")

# typer reads these annotations at run time, on Python 3.10 too: hence Optional
DeviceName = Annotated[str, typer.Option("--device", help="Device, by name or path.")]
RuntimeName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--runtime", help="Runtime: ort or openvino; the device's first for the target when left out."),
]
TargetName = Annotated[str, typer.Option("--target", help="Export target whose files are measured, by name or path.")]
BatchSize = Annotated[int, typer.Option("--batch", min=1, help="Images in one call.")]
TablePath = Annotated[
    Path | None,
    typer.Option("--table", help="The file; latency/DEVICE-RUNTIME-tN[-FORM].json when left out."),
]


@table_app.command("build")
def build_table(
    model: ModelName,
    device: DeviceName = "cpu",
    target: TargetName = PLAIN_FILES,
    runtime: RuntimeName = None,
    batch: BatchSize = 1,
    align: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--align", min=1, help="Multiple of the channel counts; as in `align: auto` when left out."),
    ] = None,
    clock: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--clock", help="cpu or wall; processor time where it equals an undisturbed latency."),
    ] = None,
    check: Annotated[bool, typer.Option(help="Measure whole models too, and calibrate with them.")] = True,
    table: TablePath = None,
    settings: Settings = None,
    classes: Classes = 10,
    size: Size = None,
    allow_code: AllowCode = False,
    quiet: Quiet = False,
) -> None:
    """Measure on the device every layer that pruning can make of a model, in files of a target, if it is missing."""
    from edgecr.core.display import TerminalMonitor
    from edgecr.core.errors import UnknownName
    from edgecr.latency_builder.builder import TableBuilder
    from edgecr.latency_builder.forms import load_measurable, runtime_of
    from edgecr.runners.base import usable_device

    if clock not in (None, "cpu", "wall"):
        raise UnknownName("clock", clock, ("cpu", "wall"))
    declared, asked = usable_device(device), load_measurable(target)
    builder = TableBuilder(
        declared,
        runtime_of(declared, asked, runtime),
        table,
        target=asked,
        clock=clock,  # type: ignore[arg-type]
        monitor=TerminalMonitor(quiet),
    )
    subject = named_subject(model, settings, classes, size, allow_code)
    from edgecr.latency_builder.fill import fill
    from edgecr.surgery.planning.widths import Limits

    with builder:
        filled = fill(
            builder,
            subject,
            _label(model, settings, subject, batch),
            batch=batch,
            limits=Limits(align or "auto"),
            check=check,
        )
    _report(filled, declared)


@table_app.command("show")
def show_table(
    device: DeviceName = "cpu",
    target: TargetName = PLAIN_FILES,
    runtime: RuntimeName = None,
    table: TablePath = None,
    layers: Annotated[bool, typer.Option("--layers", help="Every entry too.")] = False,
) -> None:
    """Show the device of a table, its contents, and how well it predicts."""
    found = _table(device, target, runtime, table)
    echo(_title(found))
    _tell_calibration(found)
    for stairs in found.staircases:
        echo(f"  {stairs.layer}: {_step_text(stairs.step)}")
    for key in sorted(found.entries) if layers else []:
        echo(f"  {key:<60} {found.entries[key].milliseconds(found.clock):9.4f} ms")


@table_app.command("list")
def list_tables(
    folder: Annotated[Optional[Path], typer.Argument(help="The folder; latency when left out.")] = None,  # noqa: UP045
) -> None:
    """List the tables of a folder: for which device, runtime and files each one is."""
    from edgecr.core.errors import EdgecrError
    from edgecr.latency import LatencyTable
    from edgecr.latency_builder.builder import FOLDER

    files = sorted((folder or FOLDER).glob("*.json"))
    for file in files:
        try:
            echo(f"{file}: {_title(LatencyTable.load(file))}")
        except EdgecrError as error:
            echo(str(error))
    if not files:
        echo(f"No tables in {folder or FOLDER}; `edgecr latency-table build MODEL` builds one.")


@table_app.command("predict")
def predict(
    model: ModelName,
    device: DeviceName = "cpu",
    target: TargetName = PLAIN_FILES,
    runtime: RuntimeName = None,
    batch: BatchSize = 1,
    estimate: Annotated[bool, typer.Option("--estimate", help="Interpolate layers that were not measured.")] = False,
    table: TablePath = None,
    settings: Settings = None,
    classes: Classes = 10,
    size: Size = None,
    allow_code: AllowCode = False,
) -> None:
    """The latency of a model by the table alone, without measuring."""
    found = _table(device, target, runtime, table)
    subject = named_subject(model, settings, classes, size, allow_code)
    from edgecr.surgery.planning.layers import configurations

    latency = found.network_latency(configurations(subject.module, subject.input_shape, batch), estimate=estimate)
    echo(f"{model}, batch {batch}, {found.machine.files}: {latency.ms:.4g} ms ({_clock_text(found)})")
    if latency.estimated:
        echo(f"An estimate: {len(latency.estimated)} layers were not measured but interpolated.")


def _table(device: str, target: str, runtime: str | None, path: Path | None) -> LatencyTable:
    from edgecr.core.errors import FileProblem
    from edgecr.latency import LatencyTable
    from edgecr.latency_builder.builder import build_command, declared_machine, default_path
    from edgecr.latency_builder.forms import load_measurable, runtime_of
    from edgecr.runners.base import usable_device

    declared, asked = usable_device(device), load_measurable(target)
    chosen = runtime_of(declared, asked, runtime)
    path, command = path or default_path(declared, chosen, asked), build_command(declared, chosen, asked)
    if not path.exists():
        raise FileProblem(f"{path} does not exist. Build it with `{command}`, or name another file with --table.")
    table = LatencyTable.load(path)
    table.require(declared_machine(declared, chosen, table, asked), str(path), command)
    return table


def _title(table: LatencyTable) -> str:
    machine = table.machine
    return (
        f"{machine.device}: {machine.processor}, {machine.runtime} {machine.version}, {machine.threads} "
        f"thread(s), files {machine.files}, {_clock_text(table)}; {len(table.entries)} layers"
    )


def _label(model: str, settings: list[str] | None, subject: Subject, batch: int) -> str:
    return " ".join([model, *(settings or []), f"{subject.input_shape[1]}px", f"batch {batch}"])


def _report(filled: Filled, device: Device) -> None:
    from edgecr.latency import common_step

    echo(
        f"Measured {filled.measured} layers; {filled.path} holds {len(filled.table.entries)} "
        f"({_clock_text(filled.table)})."
    )
    for one in filled.staircases:
        echo(f"  {one.layer}: {_step_text(one.step)}")
    if filled.staircases:
        step = common_step(filled.staircases)
        verdict = "as declared" if step == device.align else f"the device file says align: {device.align}"
        echo(f"Staircase of {device.name}: {_step_text(step)}; {verdict}.")
    for found in filled.predictions:
        echo(
            f"  {found.model:<40} predicted {found.predicted_ms:8.3f} ms, measured {found.measured_ms:8.3f} ms "
            f"({found.error:+.1%}; elapsed {found.wall_ms:.3f} ms)"
        )
    _tell_calibration(filled.table)


def _tell_calibration(table: LatencyTable) -> None:
    fit = table.calibration
    if fit.evidence:
        worst = max(abs(error) for error in fit.errors().values())
        echo(
            f"Whole model = {fit.factor:.3f} x sum of layers {fit.per_layer_ms:+.4f} ms a layer "
            f"{fit.per_mega_weight_ms:+.4f} ms a million weights {fit.per_mega_value_ms:+.4f} ms a million activations "
            f"(fitted to {len(fit.evidence)} models, worst error {worst:.1%})"
        )
    else:
        echo("Not calibrated: a whole model counts as the sum of its layers.")


def _clock_text(table: LatencyTable) -> str:
    return "processor time" if table.clock == "cpu" else "elapsed time"


def _step_text(step: int) -> str:
    return f"latency steps at multiples of {step}" if step > 1 else "no staircase"
