"""Read-only facts about the board, from /proc and /sys; a fact that cannot be read is None."""

import glob
import os
import platform
import re
import shutil
import sys
from typing import Any, Dict, Optional, Sequence

from . import heat, jetson, power, processor
from .gpu_users import gpu_users
from .tree import match, read

LIBRARIES = ("numpy", "tensorrt")  # besides the packages that the host asks for


def facts(work: str, packages: Sequence[str] = (), root: str = "/") -> Dict[str, Any]:
    """Everything that a measurement may depend on; of the packages, the versions that are there."""
    found = libraries(packages)
    board = jetson.facts(root)
    board["tensorrt"] = board["tensorrt"] or found.get("tensorrt")
    throttled = heat.throttled(root)
    if throttled["flags"] is None:
        throttled["flags"] = heat.told_flags()
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "os": match(os.path.join(root, "etc/os-release"), r'PRETTY_NAME="?([^"\n]+)'),
        "model": read(os.path.join(root, "proc/device-tree/model")),
        "cpu": processor.name(root),
        "instructions": processor.instructions(root),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "load": processor.load(root),
        "memory": memory(root),
        "swapped_pages": swapped(root),
        "disk_free": shutil.disk_usage(work).free,
        "cpufreq": processor.frequencies(root),
        "temperatures": heat.temperatures(root),
        "throttled": throttled,
        "over_current": heat.over_current(root),
        "over_current_throttling": heat.over_current_throttling(root),
        "gpu_users": gpu_users(root),
        "power": power.sensors(root),
        "libraries": found,
        **board,
        **processor.watched(),
    }


def memory(root: str = "/") -> Dict[str, Optional[int]]:
    """Kilobytes of memory, of swap, and of memory in one piece, which the builders of engines need."""
    keys = {
        "total_kb": "MemTotal",
        "available_kb": "MemAvailable",
        "swap_total_kb": "SwapTotal",
        "swap_free_kb": "SwapFree",
        "cma_total_kb": "CmaTotal",
        "cma_free_kb": "CmaFree",
    }
    path = os.path.join(root, "proc/meminfo")
    found = {key: match(path, r"(?m)^" + name + r":\s+(\d+)") for key, name in keys.items()}
    return {key: int(value) if value else None for key, value in found.items()}


def swapped(root: str = "/") -> Optional[int]:
    """Pages moved to or from swap since the start."""
    counts = re.findall(r"^pswp(?:in|out) (\d+)$", read(os.path.join(root, "proc/vmstat")) or "", re.M)
    return sum(int(count) for count in counts) if counts else None


def libraries(packages: Sequence[str]) -> Dict[str, str]:
    """Versions of numpy and of runtimes, from what their installers left; nothing is imported for it."""
    found: Dict[str, str] = {}
    for folder in sys.path:
        for name in (*LIBRARIES, *packages):
            for info in sorted(glob.glob(os.path.join(glob.escape(folder), glob.escape(name) + "-*.dist-info"))):
                found.setdefault(name, os.path.basename(info)[len(name) + 1 : -len(".dist-info")])
    return found
