"""Loads TensorRT's real Python bindings without TensorRT: the libraries that they need are replaced by empty ones.

``python -m tests.agent.tensorrt_bindings WHEEL…`` writes ``tensorrt_api.json``, the attributes of those classes of each
version that the agent uses. The wheels are those of PyPI for this Python, and need no network once they are here:
``pip download --no-deps tensorrt-bindings==8.6.1`` (and ``tensorrt-cu12-bindings==10.3.0``, ``==10.7.0``,
``==10.16.1.11``, ``tensorrt-cu13-bindings==11.4.0.106``). It takes a C compiler and ``nm``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from edgecr.runners.agent.archive import agent_archive

FILE = Path(__file__).with_name("tensorrt_api.json")
LIBRARY = "tensorrt_bindings"
READ = """
import json, sys
import tensorrt_bindings as trt
sys.modules["tensorrt"] = trt
from edgecr_agent.runtimes import tensorrt as adapter
known = {kind: sorted(n for n in dir(getattr(trt, kind, None)) if n[0] != "_") for kind in adapter.NEEDS}
print(json.dumps({"version": trt.__version__, "lacking": adapter.lacking(trt), "classes": known}))
"""


def read(site: Path, work: Path) -> dict:
    """Reads in a process of its own which of the attributes that the agent uses the bindings in a folder have."""
    put_stubs(next((site / LIBRARY).glob("tensorrt*.so")), work)
    (work / "agent.pyz").write_bytes(agent_archive())
    environment = os.environ | {"LD_LIBRARY_PATH": str(work), "PYTHONPATH": f"{work / 'agent.pyz'}:{site}"}
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def put_stubs(extension: Path, folder: Path) -> None:
    """Libraries under the names that the extension needs, with every function that it would look for in them."""
    listed = _told("nm", "-D", "--undefined-only", str(extension)).splitlines()
    names = [line.split()[-1] for line in listed if line.split()[-2] == "U" and "@" not in line]
    code = "".join(
        f'void* f{n}(void) __asm__("{name}"); void* f{n}(void){{return 0;}}\n' for n, name in enumerate(names)
    )
    (folder / "stub.c").write_text(code)
    needed = [line.split()[-1] for line in _told("objdump", "-p", str(extension)).splitlines() if "NEEDED" in line]
    for name in (one for one in needed if one.startswith("libnv")):
        command = ["cc", "-w", "-shared", "-fPIC", "-o", str(folder / name), str(folder / "stub.c")]
        subprocess.run(command, check=True)


def _told(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(wheels: list[str]) -> None:
    """Writes the attributes of each wheel's classes."""
    found = {}
    for wheel in wheels:
        with tempfile.TemporaryDirectory() as folder:
            site = Path(folder) / "site"
            zipfile.ZipFile(wheel).extractall(site)
            told = read(site, Path(folder))
            print(told["version"], "lacks", told["lacking"] or "nothing")
            found[told["version"]] = told["classes"]
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
