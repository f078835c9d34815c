"""Devices that the user adds: files in the user's own folder."""

from __future__ import annotations

from pathlib import Path

import yaml

from edgecr.core import builtin
from edgecr.core.errors import RequestError
from edgecr.core.files import write_text
from edgecr.core.names import is_name, not_a_name
from edgecr.core.yaml_text import check, parse_yaml
from edgecr.runners.device import Device


def new_place(name: str) -> Path:
    """The file that a new device will be; a name that is taken, or none at all, is refused."""
    if not is_name(name):
        raise not_a_name("device", name)
    path = builtin.config_folder() / "devices" / f"{name}.yaml"
    if builtin.shipped("devices", name):
        raise RequestError(f"{name!r} is the name of a shipped device. Choose another one, such as my-{name}.")
    if path.exists():
        raise RequestError(f"{path} is there already. Edit it, remove it, or choose another name.")
    return path


def write_own_device(
    name: str, base: Device, *, host: str | None = None, python: str | None = None, purpose: str | None = None
) -> Path:
    """Writes a device like another one; a name that is taken, or anything that is not valid, is refused."""
    path = new_place(name)
    values = base.plain() | {"name": name, "purpose": purpose or base.purpose}
    transport = dict(values["transport"])
    if python is not None and host is None and transport["kind"] == "local":
        raise RequestError("--python is for a board: this machine is measured with the Python that runs EdgeCR.")
    if host is not None:
        transport = {"kind": "ssh", **({} if transport["kind"] == "local" else transport), "host": host}
    values["transport"] = transport | ({"python": python} if python is not None else {})
    head = f"# Purpose: {' '.join(values['purpose'].split())}\n# Command: edgecr profile model.onnx --device {name}\n"
    text = head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    check(Device, parse_yaml(text, f"the new device {name}"))
    write_text(path, text)
    return path
