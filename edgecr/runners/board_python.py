"""The Python of a board, and the line that installs runtimes for it: systems of today refuse pip outside of a venv."""

from __future__ import annotations

from collections.abc import Iterable

from edgecr.runners.device import BoardTransport, Device

SYSTEM = "python3"
IN_VENV = "edgecr/bin/python"
"""Relative to the home folder, where ssh begins, so that no shell has to expand it."""
OLD_PIP = '"pip==21.3.1"'
OLD_PACKAGES = ("onnxruntime==1.10.0", "numpy==1.19.5", "protobuf==3.19.6")
"""The last ones for Python 3.6."""


def needs_venv(device: Device) -> bool:
    """True for a board whose declaration names no Python of its own."""
    return isinstance(device.transport, BoardTransport) and device.transport.python == SYSTEM


def packages_of(device: Device) -> list[str]:
    """A package for each of its runtimes that needs one."""
    return [one.packages[0] for one in device.runtimes.values() if one.packages and not one.by_tool]


def install(device: Device, packages: Iterable[str], old: bool = False) -> str:
    """The command that installs packages for its Python, in a venv where none is named yet."""
    python = device.transport.python if isinstance(device.transport, BoardTransport) else SYSTEM
    steps = []
    if needs_venv(device):
        python = f"~/{IN_VENV}"
        steps.append(f"{SYSTEM} -m venv ~/{IN_VENV.split('/')[0]}")
    if old:
        steps.append(f"{python} -m pip install {OLD_PIP}")
    wanted = [f'"{one}"' for one in OLD_PACKAGES] if old else ["numpy", *packages]
    return " && ".join([*steps, f"{python} -m pip install {' '.join(wanted)}"])


def install_remedy(device: Device, packages: Iterable[str], old: bool = False) -> str:
    """The same as a remedy, with what the device's file must name afterwards."""
    then = f"; then 'python: {IN_VENV}' under transport: in {device.declared_in}" if needs_venv(device) else ""
    return f"On the board: {install(device, packages, old)}{then}"
