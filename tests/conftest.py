"""Shared fixtures."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import subprocess
import sys
from pathlib import Path

import pytest

MINI = """\
name: mini
model: {arch: resnet20, width: 0.25}
data: {name: digits}
steps:
  - train: {epochs: 1, batch: 128}
  - distill: {student: {width: 0.25}, epochs: 1, batch: 128}
  - prune: {sparsity: 0.25, align: off}
export: [onnx]
measure: {devices: [DEVICE], batch: [1]}
robustness: {suites: [noise5], images: 40}
gates:
  size: {ratio: 1.0}
"""

QUICK_DEVICE = """\
name: quick
purpose: this machine, measured only as long as a test needs
kind: cpu
transport: {kind: local}
protocol: {launches: 2, rounds: 3, round_s: 0.02, warmup: {window_s: 0.02, limit_s: 0.2}}
"""


@pytest.fixture()
def edgecr(tmp_path):
    """Runs the command line in a child process, in an empty folder, as a user would."""

    def run(*arguments, timeout=300, cwd=tmp_path, **extra):
        root = Path(__file__).resolve().parent.parent
        path = os.pathsep.join(p for p in (str(root) if (root / "edgecr").is_dir() else "", os.environ.get("PYTHONPATH")) if p)
        environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "120"} | extra
        return subprocess.run([sys.executable, "-m", "edgecr", *map(str, arguments)], cwd=cwd, env=environment,
                              capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)

    return run


@pytest.fixture()
def mini_recipe(tmp_path):
    """A recipe that goes the whole way in well under a minute."""
    device = tmp_path / "quick.yaml"
    device.write_text(QUICK_DEVICE)
    recipe = tmp_path / "mini.yaml"
    recipe.write_text(MINI.replace("DEVICE", str(device)))
    return recipe
