"""The board's own tools: a fixed list, called without a shell."""

import os
import shutil
from typing import Any, Callable, Dict, List, Optional, Sequence

from .children import Children

# Each tool with the arguments it must be called with; None: any (it changes nothing but its own files).
ALLOWED: Dict[str, Optional[List[str]]] = {
    "trtexec": None,
    "tegrastats": None,
    "nvpmodel": ["-q"],
    "jetson_clocks": ["--show"],
    "vcgencmd": ["get_throttled"],
}
ELSEWHERE = ("/usr/src/tensorrt/bin", "/usr/sbin", "/usr/bin")


class NotAllowed(Exception):
    """A tool or an argument that the agent does not run."""


def run(
    argv: Sequence[str],
    work: str,
    children: Children,
    on_line: Callable[[bytes], None],
    stopped: Callable[[], bool],
    fetch: Sequence[str],
) -> Dict[str, Any]:
    """Runs one tool, hands on its lines, and returns its exit code and the files it wrote."""
    command = checked(argv, work)
    code = children.run(command, work, on_line, stopped, errors_too=True)
    return {"code": code, "files": {name: text_of(inside(work, name)) for name in fetch}}


def checked(argv: Sequence[str], work: str) -> List[str]:
    """The real command line: the tool's path, and ``@name`` as a file of the work folder."""
    name, rest = argv[0], list(argv[1:])
    if name not in ALLOWED:
        raise NotAllowed("%r is not a tool that the agent runs. Known: %s." % (name, ", ".join(sorted(ALLOWED))))
    needed = ALLOWED[name]
    if needed is not None and rest != needed:
        raise NotAllowed("%s is only run with %r: anything else could change the board." % (name, " ".join(needed)))
    return [find(name)] + [expand(argument, work) for argument in rest]


def find(name: str) -> str:
    """The path of a tool; NotAllowed if it is not on this board."""
    path = shutil.which(name) or shutil.which(name, path=os.pathsep.join(ELSEWHERE))
    if path is None:
        raise NotAllowed("%s is not on this board (looked on PATH and in %s)." % (name, ", ".join(ELSEWHERE)))
    return path


def expand(argument: str, work: str) -> str:
    """``--onnx=@m.onnx`` -> ``--onnx=<work>/m.onnx``."""
    key, mark, name = argument.partition("@")
    return key + inside(work, name) if mark and (not key or key.endswith("=")) else argument


def inside(work: str, name: str) -> str:
    """A path in the work folder, and nowhere else."""
    return os.path.join(work, os.path.basename(name))


def text_of(path: str) -> Any:
    """A file's text, None when the tool did not write it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None
