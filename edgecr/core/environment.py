"""Facts about the machine and the software that produced a run; no secrets, no addresses."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "edgecr",
    "torch",
    "torchvision",
    "timm",
    "lightning-fabric",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "albumentations",
    "opencv-python-headless",
    "scikit-learn",
    "safetensors",
    "pydantic",
)


def environment(threads: int, accelerator: str = "cpu", devices: int = 1) -> dict[str, Any]:
    """Versions, processor, threads, accelerators and the state of the git checkout that the command ran in."""
    return {
        "python": python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_kb": _memory(),
        "threads": threads,
        "accelerator": accelerator,
        "devices": devices,
        "packages": packages(),
        "git": _git(),
        "command": [_program(Path(sys.argv[0])), *sys.argv[1:]],
    }


def _program(file: Path) -> str:
    """The name of the running program; of ``python -m edgecr`` it is not that of the file."""
    return file.parent.name if file.name == "__main__.py" else file.name


def python_version() -> str:
    """The version of the running Python."""
    return platform.python_version()


def packages() -> dict[str, str | None]:
    """The installed versions of everything that can change a result."""
    return {name: version(name) for name in _PACKAGES}


def version(package: str) -> str | None:
    """The installed version of a package, None when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cpu_model() -> str | None:
    """The processor's name as the kernel tells it."""
    return _first_match("/proc/cpuinfo", r"model name\s*:\s*(.+)") or platform.processor() or None


def _memory() -> int | None:
    found = _first_match("/proc/meminfo", r"MemTotal:\s+(\d+)")
    return int(found) if found else None


def _first_match(file: str, pattern: str) -> str | None:
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(pattern, text)
    return found.group(1).strip() if found else None


def _git() -> dict[str, Any] | None:
    commit = _git_output("rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "changed_files": len((_git_output("status", "--porcelain") or "").splitlines())}


def _git_output(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
