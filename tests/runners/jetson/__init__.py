"""A pretended Jetson: stubs of its tools to be put in front of PATH, and a device whose board has them."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from edgecr.core.files import write_json
from edgecr.exporters import load_target
from edgecr.exporters.tensorrt import build
from edgecr.runners.base import Device
from tests.runners.tiny_device import quick_device, write_onnx

HERE = Path(__file__).parent
NVPMODEL = '#!/bin/sh\n[ "$1" = -q ] && { echo "NV Power Mode: MAXN_SUPER"; echo 2; exit 0; }\nexit 255\n'
PROTOCOL = {
    "launches": 1,
    "rounds": 2,
    "round_s": 0.01,
    "least_rounds": 1,
    "throughput": {"seconds": 0.02, "streams": [1, 2]},
}


class PretendedJetson:
    """Stubs in a folder, and what EdgeCR keeps on such a board in another one."""

    def __init__(self, folder: Path) -> None:
        self.tools, self.kept, self.work = (folder / name for name in ("tools", "kept", "work"))
        for made in (self.tools, self.kept, self.work):
            made.mkdir(parents=True)
        self.put("nvpmodel", NVPMODEL)
        self.put("trtexec", f'#!/bin/sh\nexec {sys.executable} {HERE}/fake_trtexec.py "$@"\n')

    def put(self, name: str, text: str) -> None:
        """Writes one tool."""
        (self.tools / name).write_text(text)
        (self.tools / name).chmod(0o755)

    def device(
        self, *, transport: dict | None = None, protocol: dict | None = None, env: dict | None = None, **options
    ) -> Device:
        """A device with TensorRT whose agent finds the stubs."""
        own = {
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(self.kept),
            "TMPDIR": str(self.work),
            **(env or {}),
        }
        return quick_device(
            kind="jetson",
            transport=(transport or {"kind": "local"}) | {"env": own},
            runtimes={"tensorrt": options},
            protocol=PROTOCOL | (protocol or {}),
        )


def write_artifact(folder: Path, channels: int = 4, target: str = "tensorrt-jetpack6-fp16") -> Path:
    """A small model with the recipe of its engine."""
    folder.mkdir(parents=True)
    model, declared = write_onnx(folder / "model.onnx", channels), load_target(target)
    shape = {"name": "x", "shape": [None, 3, 8, 8]}
    write_json(folder / build.FILE, build.recipe(declared, model.name, shape))
    return model


def make_stale(jetson: PretendedJetson) -> None:
    """Makes the engine that is kept one of another version, under a hash that is right."""
    kept = jetson.kept / "edgecr-board" / "engines"
    entry = next(path for path in kept.iterdir() if path.read_bytes()[:4] == b"STUB")
    foreign = entry.read_bytes().replace(b"100300", b"100200")
    entry.unlink()
    entry.with_name(f"{entry.name.split('.')[0]}.{hashlib.sha256(foreign).hexdigest()}").write_bytes(foreign)
