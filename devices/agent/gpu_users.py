"""Other programs that hold the GPU: what they compute is in the time that is measured."""

import os
import re
from typing import Any, Dict, List, Optional

from . import tools
from .tree import below, read

NODES = r"/dev/(nvhost|nvidia|nvgpu)"
COMPUTING = ["nvidia-smi", "--query-compute-apps=pid,process_name", "--format=csv,noheader"]


def gpu_users(root: str = "/") -> Optional[List[Dict[str, Any]]]:
    """Processes with an open GPU, as far as this user may see them; None on a board without one."""
    if not any(below(root, "dev/" + name) for name in ("nvhost*", "nvidia*", "nvgpu*")):
        return None
    found = {pid: read(os.path.join(root, "proc", str(pid), "comm")) or "?" for pid in holders(root)}
    for pid, name in re.findall(r"^(\d+), *(.+)$", tools.told(COMPUTING) or "", re.M):
        found.setdefault(int(pid), os.path.basename(name.strip()))
    return [{"pid": pid, "name": name} for pid, name in sorted(found.items()) if pid != os.getpid()]


def holders(root: str) -> List[int]:
    """The processes whose open files include a node of a GPU."""
    found = set()
    for link in below(root, "proc/[0-9]*/fd/*"):
        try:
            if re.match(NODES, os.readlink(link)):
                found.add(int(link.split("/fd/")[0].rpartition("/")[2]))
        except OSError:
            continue
    return sorted(found)
