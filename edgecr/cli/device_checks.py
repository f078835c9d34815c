"""``edgecr devices probe`` and ``doctor``: the facts about a board, and a walk through all that a measurement needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from edgecr.cli.catalogue import NameArgument, devices_app
from edgecr.cli.echo import echo

if TYPE_CHECKING:
    from edgecr.runners.device import Device


@devices_app.command("probe")
def probe_device(
    name: NameArgument,
    save: Annotated[Optional[Path], typer.Option("--save", help="Write the facts there, as JSON.")] = None,  # noqa: UP045
) -> None:
    """Print what a board tells about itself, and what stands against measuring on it; nothing is changed there."""
    from edgecr.core.display import TerminalMonitor
    from edgecr.core.files import write_json
    from edgecr.runners.base import usable_device
    from edgecr.runners.doctor import probe, units_of

    found = []
    for device in units_of(usable_device(name)):
        facts = probe(device, TerminalMonitor())
        found.append(facts)
        for key, value in facts.items():
            echo(f"{key:<24} {_in_words(value)}")
        _show_fitness(device, facts)
    if save:
        write_json(save, found)


@devices_app.command("doctor")
def doctor_device(
    name: NameArgument,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Write everything that was found there, as JSON to be sent on."),
    ] = None,
) -> None:
    """Walk through all that a measurement on a board needs; each line names its remedy. Exits 1 if something fails."""
    from edgecr.core.display import TerminalMonitor
    from edgecr.core.files import write_json
    from edgecr.runners.base import usable_device
    from edgecr.runners.doctor import examine, units_of
    from edgecr.runners.redaction import to_be_sent

    devices = units_of(usable_device(name))
    found = [examine(device, TerminalMonitor()) for device in devices]
    for each in (finding for one in found for finding in one.findings):
        echo(f"{each.state:<5} {each.check:<24} {each.text}" + (f"\n{'':<30} {each.remedy}" if each.remedy else ""))
    if output:
        write_json(output, [to_be_sent(*pair).model_dump(mode="json") for pair in zip(found, devices)])
    if any(one.failed for one in found):
        raise typer.Exit(1)


def _show_fitness(device: Device, facts: dict[str, Any]) -> None:
    from edgecr.runners import fitness
    from edgecr.runners.fitness.expectations import mismatches

    wrong, doubts = mismatches(device, facts), fitness.before(device, facts)
    for title, texts in (("not as its file expects", wrong), ("doubts", doubts)):
        for text in texts:
            echo(f"{title}: {text}")
    if not wrong and not doubts:
        echo("Nothing stands against measuring on it.")


def _in_words(value: Any) -> str:
    """A fact in one line."""
    if value is None or value in ({}, []):
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_words(each)}" for key, each in value.items())
    return ", ".join(map(_in_words, value)) if isinstance(value, list) else str(value)
