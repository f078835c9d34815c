"""The board's own tools: a fixed list, called without a shell."""

import os
import shutil
import subprocess
from typing import Any, Callable, Dict, List, Optional, Sequence

from .children import Children

# Each tool with the lists of arguments it may be called with; None: any (it changes nothing but its own files).
ALLOWED: Dict[str, Optional[List[List[str]]]] = {
    "trtexec": None,
    "tegrastats": None,
    "nvpmodel": [["-q"]],
    "jetson_clocks": [["--show"]],
    "vcgencmd": [["get_throttled"], ["pmic_read_adc"]],
    "nvidia-smi": [["--query-compute-apps=pid,process_name", "--format=csv,noheader"]],
}
PATIENCE_S = 5.0  # for a tool that only tells something
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


def told(argv: Sequence[str]) -> Optional[str]:
    """The text that a tool prints which only tells something; None where it is not there, fails or takes too long."""
    try:
        done = subprocess.run(
            checked(argv, ""),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_S,
            start_new_session=True,
        )
    except (NotAllowed, OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def checked(argv: Sequence[str], work: str) -> List[str]:
    """The real command line: the tool's path, and ``@name`` as a file of the work folder."""
    name, rest = argv[0], list(argv[1:])
    if name not in ALLOWED:
        raise NotAllowed("%r is not a tool that the agent runs. Known: %s." % (name, ", ".join(sorted(ALLOWED))))
    needed = ALLOWED[name]
    if needed is not None and rest not in needed:
        forms = " or ".join(repr(" ".join(one)) for one in needed)
        raise NotAllowed("%s is only run with %s: anything else could change the board." % (name, forms))
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
