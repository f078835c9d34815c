"""``edgecr devices``: which machines are known, whose declarations they are, and which of them may be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from edgecr.cli.catalogue import NameArgument, devices_app
from edgecr.cli.echo import echo
from edgecr.cli.listing import lists

if TYPE_CHECKING:
    from pathlib import Path

    from edgecr.runners.device import Device


@lists(devices_app)
def list_devices() -> None:
    """The shipped devices, your own and those of the current folder, with their purposes."""
    from edgecr.core import builtin

    for name in sorted({*builtin.names("devices"), *builtin.own_names("devices"), *builtin.local_names("devices")}):
        echo(f"{name:<28} {_in_a_line(name)}")


@devices_app.command("show")
def show_device(name: NameArgument) -> None:
    """The text of a device declaration, whose it is, and whether it may be used."""
    from edgecr.core.yaml_text import decoded, read_bytes
    from edgecr.runners.device import load_device

    device = load_device(name)
    file = _file(device)
    echo(f"# {file} ({_standing(device)})\n{decoded(read_bytes(file), file)}", nl=False)


@devices_app.command("trust")
def trust_device(
    name: NameArgument,
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the permission back.")] = False,
    host_key: Annotated[
        bool, typer.Option("--host-key", help="Show the key of the board itself, and have ssh know it once confirmed.")
    ] = False,
    fingerprint: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--fingerprint", help="With --host-key: SHA256:... that it must have; once for each unit."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; only together with --fingerprint.")] = False,
) -> None:
    """Allow a device file that came with somebody's folder, as it is now; or, with --host-key, a board's key.

    A file that has changed is asked for again.
    """
    from edgecr.core.errors import RequestError
    from edgecr.core.printable import one_line
    from edgecr.runners import trust
    from edgecr.runners.device import load_device

    if (revoke and host_key) or ((fingerprint or yes) and not host_key):
        raise RequestError("--fingerprint and --yes belong to --host-key, --revoke to device files.")
    device = load_device(name)
    if host_key:
        _trust_host_keys(device, fingerprint or [], yes)
        return
    file = one_line(str(_file(device)))
    if revoke:
        echo(f"{file} is no longer trusted." if trust.revoke(device) else f"{file} was not trusted.")
        return
    if device.origin.owner != "foreign":
        echo(f"{file} needs no permission ({_standing(device)}).")
        return
    trust.trust(device)
    echo(f"Trusted as it is now: {file}\nUsing device {device.name!r} will do this:")
    for fact in trust.facts(device):
        echo(f"  {one_line(fact)}")


def _trust_host_keys(device: Device, fingerprints: list[str], yes: bool) -> None:
    """Shows the unknown key of the board, or of each unit, and remembers it once it is confirmed."""
    from edgecr.core.errors import RequestError
    from edgecr.runners.doctor import units_of
    from edgecr.runners.host_keys import unknown_key

    if yes and not fingerprints:
        raise RequestError("No key is trusted blindly: give --yes together with --fingerprint SHA256:...")
    for unit in units_of(device):
        key = unknown_key(unit)
        if key is None:
            echo("ssh knows the board's key already, and the board still has it.")
            continue
        echo(f"'{key.host}' shows this key, which nobody has vouched for yet:\n  {key.kind} {key.fingerprint}")
        if fingerprints:
            key.require(fingerprints)
            echo("It has the fingerprint that you gave.")
        else:
            file = f"/etc/ssh/ssh_host_{key.kind.removeprefix('ssh-').split('-')[0]}_key.pub"
            echo(f"Compare it on the board itself, at its own screen or serial console: ssh-keygen -lf {file}")
        if not yes and not typer.confirm("Is it the board's?"):
            echo("Nothing was written.")
            raise typer.Exit(1)
        key.remember()
        echo(f"Remembered in {key.known_hosts}.")


@devices_app.command("add")
def add_device(
    name: Annotated[str, typer.Argument(help="What to call it, for --device and in recipes.")],
    host: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--host", help='The board: "ssh HOST" logs in without a question. This machine when left out.'),
    ] = None,
    like: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--like", help="Device to begin with; jetson with --host, else cpu."),
    ] = None,
    python: Annotated[Optional[str], typer.Option("--python", help="The board's Python.")] = None,  # noqa: UP045
    purpose: Annotated[Optional[str], typer.Option("--purpose", help="A line that says what it is.")] = None,  # noqa: UP045
) -> None:
    """Write a device of your own into your user folder, where it is trusted and found from everywhere."""
    from edgecr.core import builtin
    from edgecr.runners.base import usable_device
    from edgecr.runners.own import new_place, write_own_device

    new_place(name)  # a name that is taken needs no device to begin with
    base = usable_device(like or str(builtin.folder("devices") / f"{'jetson' if host else 'cpu'}.yaml"))
    file = write_own_device(name, base, host=host, python=python, purpose=purpose)
    echo(f"{file}\nIt is yours, so it is trusted. Try it: edgecr profile model.onnx --device {name}")


def _in_a_line(name: str) -> str:
    """The purpose of a device, and whose it is unless it is a shipped one; a file that is no device spoils no list."""
    from edgecr.core.errors import EdgecrError
    from edgecr.core.printable import one_line
    from edgecr.recipe import purpose
    from edgecr.runners.device import load_device

    try:
        device = load_device(name)
    except EdgecrError:
        return f"(cannot be read; what is wrong: edgecr devices show {name})"
    whose = {"shipped": "", "own": "(yours) "}.get(device.origin.owner)
    if whose is None:
        whose = f"({_standing(device)}) "
    return one_line(whose + purpose(_file(device)))


def _file(device: Device) -> Path:
    from edgecr.core.errors import FileProblem

    if device.origin.file is None:
        raise FileProblem(f"The device {device.name!r} is not described by a file.")
    return device.origin.file


def _standing(device: Device) -> str:
    from edgecr.runners.trust import is_trusted

    if device.origin.owner == "foreign":
        return "of this folder; trusted" if is_trusted(device) else "of this folder; not trusted"
    return "shipped with EdgeCR" if device.origin.owner == "shipped" else "your own"
