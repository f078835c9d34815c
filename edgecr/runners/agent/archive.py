"""The agent as one file that travels over stdin, and the line of Python that unpacks it on the other side."""

from __future__ import annotations

import io
import zipfile
from functools import cache

from edgecr.core import builtin
from edgecr.core.errors import WorkError

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


@cache
def agent_archive() -> bytes:
    """The agent's modules as a zip, the same bytes on every machine."""
    files = sorted((builtin.folder("devices") / "agent").glob("*.py"))
    if not files:
        raise WorkError(f"The agent is missing from {builtin.folder('devices')}; install edgecr again.")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            archive.writestr(zipfile.ZipInfo(f"edgecr_agent/{file.name}", _EPOCH), file.read_bytes())
    return buffer.getvalue()
