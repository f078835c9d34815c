"""``edgecr doctor``: what works here, what does not, and why."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import echo

_NEEDED = (
    "torch",
    "torchvision",
    "timm",
    "lightning_fabric",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "albumentations",
    "sklearn",
)
_OPTIONAL = {
    "openvino": "OpenVINO on Intel and ARM processors: pip install 'edgecr[openvino]'",
    "nncf": "8-bit files for OpenVINO: pip install 'edgecr[openvino]'",
    "tensorrt": "TensorRT on the board itself; JetPack brings it, pip cannot",
}


@app.command()
def doctor() -> None:
    """Check the installation and this machine; exits 1 when something needed is missing."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    missing = [name for name in _NEEDED if not _report(name, "needed: pip install edgecr")]
    for name, why in _OPTIONAL.items():
        _report(name, f"optional: {why}")
    _tool("ssh", "needed only for boards that are reached over the network")
    _tool("git", "optional: records the state of your checkout with each run")
    _machine()
    if missing:
        raise typer.Exit(1)


def _report(name: str, remedy: str) -> bool:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        echo(f"  --  {name:<18} {error} ({remedy})")
        return False
    echo(f"  ok  {name:<18} {getattr(module, '__version__', '')}")
    return True


def _tool(name: str, why: str) -> None:
    found = shutil.which(name)
    echo(f"  {'ok' if found else '--'}  {name:<18} {found or why}")


def _machine() -> None:
    from edgecr.core.environment import cpu_model

    free = shutil.disk_usage(Path.cwd()).free / 2**30
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cores = os.cpu_count() or 1
    echo(f"      processor          {cpu_model()}, {cores} cores, Python {sys.version.split()[0]}")
    echo(f"      free disk here     {free:.1f} GiB" + ("  (little: a run needs about 1 GiB)" if free < 1 else ""))
    if load is not None and load > cores * 0.5:
        echo(
            f"      load               {load:.1f} on {cores} cores; the machine is busy: "
            "latencies would be unreliable. Close other work."
        )
