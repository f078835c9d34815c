"""The device files that may be used: EdgeCR's, the user's own, and those that the user has trusted.

A device file says where to connect and what to run, so one that came with somebody's folder is foreign. It can be
shown and checked, but no runner is made of it until ``edgecr devices trust`` has remembered its hash.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgecr.core import builtin
from edgecr.core.errors import FileProblem, NotTrusted
from edgecr.core.files import fingerprint, read_json, storage_errors
from edgecr.core.printable import one_line
from edgecr.core.yaml_text import read_bytes
from edgecr.runners.device import BoardTransport, Device, LabgridTransport, Origin, load_device
from edgecr.runners.ssh_options import commands_in, settings_files

SCHEMA = 1


def usable_device(name: str, beside: Path | None = None) -> Device:
    """Reads a device declaration that is going to be used; NotTrusted for a foreign one."""
    device = load_device(name, beside)
    require_trust(device)
    return device


def vouched(device: Device) -> Device:
    """The same device, answered for by the program that calls this: it wrote the values itself."""
    return device.with_origin(Origin("program"))


def require_trust(device: Device) -> None:
    """Raises NotTrusted unless EdgeCR, the user or the calling program answers for the device."""
    origin = device.origin
    if origin.owner == "nobody":
        raise NotTrusted(
            f"The device {device.name!r} comes from a record, not from a device file: nobody answers for it. "
            "Name a device, or call edgecr.runners.trust.vouched for one that your program describes itself."
        )
    if origin.owner == "foreign" and not is_trusted(device):
        raise NotTrusted("\n".join(_refusal(device)))


def is_trusted(device: Device) -> bool:
    """True when the user has allowed exactly this content at this place."""
    return _trusted().get(_place(device)) == _digest(device)


def trust(device: Device) -> None:
    """Remembers that the user allows this file as it is now."""
    _write(_trusted() | {_place(device): _digest(device)})


def revoke(device: Device) -> bool:
    """Forgets a file; False when it was not trusted."""
    known = _trusted()
    found = known.pop(_place(device), None) is not None
    if found:
        _write(known)
    return found


def hiding(device: Device) -> str | None:
    """A line for a device that goes by the name of a shipped one without being it."""
    if device.origin.owner not in ("own", "foreign") or device.name not in builtin.names("devices"):
        return None
    return f"Device {device.name!r} is {device.origin.file}, not the shipped device of that name."


def facts(device: Device) -> Iterator[str]:
    """All that using a device would connect to and run, one fact a line."""
    transport = device.transport
    if isinstance(transport, BoardTransport):
        yield from _places(device, transport)
        if transport.ssh_options:
            yield f"ssh options    {' '.join(transport.ssh_options)}"
        for file in settings_files(transport.ssh_options):
            yield f"ssh settings   {file}"
            for line in _commands(file):
                yield f"  which has    {line}"
        yield f"runs there     {transport.python}, with EdgeCR's agent"
        if transport.power_cycle:
            yield f"runs here      {' '.join(transport.power_cycle.command)}, when the board does not answer"
    else:
        yield "runs here      EdgeCR's agent, in a Python process of its own"
    for name, value in transport.env.items():
        yield f"environment    {name}={value}"
    for name, options in device.runtimes.items():
        yield f"runtime        {name} {json.dumps(options.plain())}"


def _places(device: Device, transport: BoardTransport) -> Iterator[str]:
    if isinstance(transport, LabgridTransport):
        asked = transport.place or ", ".join(f"{key}={value}" for key, value in transport.tags.items())
        yield f"runs here      labgrid-client, which acquires {asked} of {transport.coordinator or 'its usual lab'}"
    if device.units:
        yield f"connects to    {', '.join(device.units)}, by ssh"
    elif transport.host or not isinstance(transport, LabgridTransport):
        yield f"connects to    {transport.host or 'nothing yet: no host is given'}, by ssh"


def _refusal(device: Device) -> Iterator[str]:
    place = device.origin.file
    yield f"Device {device.name!r} is described by {one_line(str(place))}, which you have not trusted as it is now."
    if hiding(device):
        yield "It hides the shipped device of that name."
    yield "Using it would do this:"
    for fact in facts(device):
        yield f"  {one_line(fact)}"
    yield f"Read the file. If all of this is meant: edgecr devices trust {one_line(str(place))}"


def _commands(file: Path) -> list[str]:
    try:
        return commands_in(read_bytes(file).decode("utf-8", "replace"))
    except FileProblem as error:
        return [str(error)]


def _place(device: Device) -> str:
    return str(_file(device).resolve())


def _digest(device: Device) -> str:
    """The hash of the device file and of the ssh settings that it points to."""
    transport = device.transport
    options = transport.ssh_options if isinstance(transport, BoardTransport) else ()
    settings = [read_bytes(file).hex() if builtin.is_file(file) else None for file in settings_files(options)]
    return fingerprint([device.origin.sha256, settings])


def _file(device: Device) -> Path:
    if device.origin.file is None:
        raise NotTrusted(f"The device {device.name!r} is not described by a file.")
    return device.origin.file


def _store() -> Path:
    return builtin.config_folder() / "trusted.json"


def _trusted() -> dict[str, str]:
    """The files that the user has trusted: the path of each and its hash."""
    path = _store()
    if not path.exists():
        return {}
    if os.name == "posix" and path.stat().st_mode & 0o022:
        raise FileProblem(f"{path} can be written by others, so it proves nothing. If it is right: chmod 600 {path}")
    values = read_json(path)
    devices = values.get("devices") if isinstance(values, dict) and values.get("schema") == SCHEMA else None
    if not isinstance(devices, dict) or not all(isinstance(digest, str) for digest in devices.values()):
        raise FileProblem(f"{path} is not a list of trusted files of this version; remove it and trust anew.")
    return devices


def _write(devices: dict[str, str]) -> None:
    """Replaces the list, readable by the user only; of two at the same time one is lost, and asked for again."""
    path = _store()
    with storage_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".trusted.", suffix=".tmp", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"schema": SCHEMA, "devices": devices}, file, indent=2, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
