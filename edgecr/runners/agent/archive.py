"""The agent as one file that travels over stdin, and the line of Python that unpacks it on the other side."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from edgecr.core import builtin
from edgecr.core.errors import WorkError
from edgecr.runners.runtimes import runtimes

# Needs only the standard library; has no single quotes, because the board's shell gets it between two.
# The current folder leaves sys.path, so that no file there poses as a module. Until the agent has taken over,
# any end removes the folder: an exception, a signal, a host that left in the middle or says nothing for a minute.
BOOT = (
    "import sys,os;sys.path=[x for x in sys.path if x];import json,tempfile,atexit,shutil,signal;"
    "[signal.signal(n,lambda *a:sys.exit(6)) for n in (1,2,14,15)];signal.alarm(60);f=sys.stdin.buffer;"
    'h=json.loads(f.readline().decode() or sys.exit(3));os.environ.update(h["env"]);os.umask(63);'
    'w=os.path.join(tempfile.gettempdir(),"edgecr-agent-"+os.urandom(16).hex());atexit.register(shutil.rmtree,w,True);'
    'os.mkdir(w);b=f.read(h["size"]);'
    'len(b)<h["size"] and sys.exit(3);p=os.path.join(w,"agent.pyz");o=open(p,"wb");o.write(b);'
    "o.close();sys.path.insert(0,p);from edgecr_agent.__main__ import main;main(f,w)"
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


def agent_archive() -> bytes:
    """The agent's modules as a zip, with those of runtimes from elsewhere; the same bytes on every machine."""
    root = builtin.folder("devices") / "agent"
    files = {file.relative_to(root).as_posix(): file for file in sorted(root.rglob("*.py"))}
    if not files:
        raise WorkError(f"The agent is missing from {builtin.folder('devices')}; install edgecr again.")
    for name in runtimes:
        if module := runtimes.get(name).agent_module:
            _add(files, f"runtimes/{name}.py", module)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for place, file in files.items():
            archive.writestr(zipfile.ZipInfo(f"edgecr_agent/{place}", _EPOCH), file.read_bytes())
    return buffer.getvalue()


def _add(files: dict[str, Path], place: str, module: Path) -> None:
    """Adds the module of a runtime from elsewhere; it may neither be missing nor take the place of another one."""
    if place in files:
        raise WorkError(f"{module} cannot be sent as {place}: the agent has a file of that name. Rename the runtime.")
    if not module.is_file():
        raise WorkError(f"{module} does not exist; its runtime cannot be sent to a board.")
    files[place] = module
