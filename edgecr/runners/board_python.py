"""The Python of a board, and the line that installs runtimes for it: systems of today refuse pip outside of a venv."""

from __future__ import annotations

from collections.abc import Iterable

from edgecr.runners.device import BoardTransport, Device

SYSTEM = "python3"
IN_VENV = "edgecr/bin/python"
"""Relative to the home folder, where ssh begins, so that no shell has to expand it."""
OLD_PIP = '"pip==21.3.1"'
"""The pip that comes with Python before 3.8 is too old for the wheels of arm64; newer ones than this refuse 3.6."""
PINNED = {
    (3, 6): ("onnxruntime==1.10.0", "numpy==1.19.5", "protobuf==3.19.6"),
    (3, 7): ("onnxruntime==1.14.1", "numpy==1.21.6"),
    (3, 8): ("onnxruntime==1.19.2", "numpy==1.24.4"),
    (3, 10): ("onnxruntime==1.23.2", "numpy==2.2.6"),
}
"""The newest versions with wheels for arm64, as tried; the agent has the same."""


def needs_venv(device: Device) -> bool:
    """True for a board whose declaration names no Python of its own."""
    return isinstance(device.transport, BoardTransport) and device.transport.python == SYSTEM


def packages_of(device: Device) -> list[str]:
    """A package for each of its runtimes that needs one."""
    return [one.packages[0] for one in device.runtimes.values() if one.packages and not one.by_tool]


def is_old(python: str) -> bool:
    """True for a version of Python whose own pip is too old."""
    return _numbers(python) < (3, 8)


def install(device: Device, packages: Iterable[str], version: str = "") -> str:
    """The command that installs packages for its Python, in a venv where none is named yet.

    ``version`` is the one that the board tells; the packages that fit it are named exactly.
    """
    python = device.transport.python if isinstance(device.transport, BoardTransport) else SYSTEM
    steps = []
    if needs_venv(device):
        python = f"~/{IN_VENV}"
        steps.append(f"{SYSTEM} -m venv ~/{IN_VENV.split('/')[0]}")
    if version and is_old(version):
        steps.append(f"{python} -m pip install {OLD_PIP}")
    return " && ".join([*steps, f"{python} -m pip install {' '.join(_wanted([*packages], version))}"])


def install_remedy(device: Device, packages: Iterable[str], version: str = "") -> str:
    """The same as a remedy, with what the device's file must name afterwards."""
    then = f"; then 'python: {IN_VENV}' under transport: in {device.declared_in}" if needs_venv(device) else ""
    return f"On the board: {install(device, packages, version)}{then}"


def _wanted(packages: list[str], version: str) -> list[str]:
    pinned = PINNED.get(_numbers(version)) if "onnxruntime" in packages else None
    if pinned is None:
        return ["numpy", *packages]
    return [*(f'"{one}"' for one in pinned), *(one for one in packages if one != "onnxruntime")]


def _numbers(version: str) -> tuple[int, int]:
    major, minor, *_ = (*(int(part) for part in version.split(".")[:2] if part.isdigit()), 0, 0)
    return major, minor
