"""Checks that a measurement fits into the board's free memory, and caps its allocations; a board must never swap."""

import os
import re
import resource
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .tree import read

LOADED = 4  # times the weights: the file as read, the weights, and copies arranged for the kernels
CALLED = 2  # times the values that are alive at once: runtimes keep what they freed (1.0 to 2.6 were measured)
RUNTIME = 64 << 20  # Python, numpy and the runtime itself
LEAST_SPARE = 64 << 20  # for the system, however small the board
SPARE_SHARE = 20  # one part in so many of all memory is left to the system
UNLIMITED = 1 << 60  # control groups write "no limit" as a number near 2 ** 63

Sizes = Tuple[Optional[int], Optional[int]]


def refusal(request: Dict[str, Any], root: str = "/") -> Optional[str]:
    """A sentence when the arms of a measuring request do not fit into free memory; None when they may."""
    total, free = sizes(root)
    arms = request["arms"] if request["op"] == "bench" else [request]
    streams = max(request.get("streams") or [1])
    needs = [needed(arm, streams) for arm in arms]
    if free is None or sum(needs) + RUNTIME <= room(total, free):
        return None
    return (
        "Not enough memory on the board, so nothing was started: %s about %s MB together with the runtime, and of "
        "%s MB that are free %s are left to the system. Use a smaller batch, measure fewer models or batches at "
        "once, or stop other programs."
        % (listed(arms, needs), megabytes(sum(needs) + RUNTIME), megabytes(free), megabytes(free - room(total, free)))
    )


def needed(arm: Dict[str, Any], streams: int) -> int:
    """Bytes that one arm takes, by what the host read in its file."""
    need = arm.get("memory") or {}
    return LOADED * int(need.get("weights", 0)) + CALLED * int(need.get("call", 0)) * streams


def listed(arms: List[Dict[str, Any]], needs: List[int]) -> str:
    """The arms with their batches and needs, the hungriest first."""
    order = sorted(range(len(arms)), key=lambda number: -needs[number])
    texts = [
        "%s (batch %d: about %s MB)" % (arms[number]["label"], arms[number]["batch"], megabytes(needs[number]))
        for number in order[:3]
    ]
    rest = " and %d more" % (len(order) - 3) if len(order) > 3 else ""
    return ", ".join(texts) + rest + (" needs" if len(order) == 1 else " need")


def room(total: Optional[int], free: int) -> int:
    """The bytes that measuring may take."""
    return max(0, free - max(LEAST_SPARE, (total or 0) // SPARE_SHARE))


def megabytes(count: int) -> str:
    """Bytes in units of 10^6, rounded to a whole number."""
    return str(int(round(count / 1e6)))


def cap() -> None:
    """Makes an allocation fail that would take what the system needs, should an estimate be wrong."""
    total, free = sizes()
    used = status_kb("VmData")
    if free is None or used is None:
        return
    most = used * 1024 + room(total, free)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def status_kb(name: str) -> Optional[int]:
    """One figure of this process, in kB; None where the kernel does not tell it."""
    found = re.search(r"^%s:\s+(\d+) kB" % name, read("/proc/self/status") or "", re.M)
    return int(found.group(1)) if found else None


def sizes(root: str = "/") -> Sizes:
    """Bytes of all memory and of free memory, as far as this process is allowed; None where nobody tells."""
    meminfo = read(os.path.join(root, "proc/meminfo")) or ""
    figures = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", meminfo, re.M))
    total = int(figures["MemTotal"]) * 1024 if "MemTotal" in figures else None
    free = int(figures["MemAvailable"]) * 1024 if "MemAvailable" in figures else None
    for limit, left in group_limits(root):
        total = limit if total is None else min(total, limit)
        free = left if free is None else min(free, left)
    return total, free


def group_limits(root: str) -> Iterator[Tuple[int, int]]:
    """Limit and bytes left of each control group that this process is in."""
    for line in (read(os.path.join(root, "proc/self/cgroup")) or "").splitlines():
        number, kinds, path = (line.split(":", 2) + ["", ""])[:3]
        if number == "0" and not kinds:
            mount, names = "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            mount = "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        for folder in upwards(os.path.join(root, mount), path):
            found = group_limit(folder, *names)
            if found:
                yield found


def upwards(mount: str, path: str) -> Iterator[str]:
    """The folder of a group and those of all groups around it; a container sees only the mount itself."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for count in range(len(parts), -1, -1):
        yield os.path.join(mount, *parts[:count])


def group_limit(folder: str, limit_name: str, used_name: str, cache_key: str) -> Optional[Tuple[int, int]]:
    """Limit and bytes left of one control group; what it holds of files can be given back."""
    limit = read(os.path.join(folder, limit_name)) or ""
    used = read(os.path.join(folder, used_name)) or ""
    if not limit.isdigit() or not used.isdigit() or int(limit) >= UNLIMITED:
        return None
    cache = re.search(r"^%s (\d+)$" % cache_key, read(os.path.join(folder, "memory.stat")) or "", re.M)
    held = int(used) - (int(cache.group(1)) if cache else 0)
    return int(limit), max(0, int(limit) - max(0, held))
