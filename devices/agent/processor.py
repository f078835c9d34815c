"""Facts about the processor: clocks, instructions, and the programs that use it just now."""

import os
import re
import time
from typing import Any, Dict, List, Optional

from .tree import below, match, number, read

LOOK_S = 0.2  # how long the processors are watched
BUSY = 0.05  # share of one core from which a process is worth naming
# Instructions that change the speed or the answers of kernels, as /proc/cpuinfo names them.
TELLING = (
    "avx2 fma f16c avx512f avx512_vnni avx_vnni avx512_bf16 amx_int8 amx_bf16 asimd asimdhp asimddp i8mm bf16 sve sve2"
).split()


def load(root: str = "/") -> Optional[float]:
    """The load average of the last minute."""
    text = read(os.path.join(root, "proc/loadavg"))
    return float(text.split()[0]) if text else None


def name(root: str = "/") -> Optional[str]:
    """The processor's name."""
    return match(os.path.join(root, "proc/cpuinfo"), r"model name\s*:\s*(.+)")


def instructions(root: str = "/") -> List[str]:
    """The telling instructions that every core has; empty where the kernel names none."""
    text = read(os.path.join(root, "proc/cpuinfo"), 1 << 20) or ""
    cores = [set(line.split()) for line in re.findall(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.M)]
    return [one for one in TELLING if cores and all(one in core for core in cores)]


def frequencies(root: str = "/") -> Dict[str, Any]:
    """Governors and clocks (kHz) of the cores."""
    folder = "sys/devices/system/cpu/cpu[0-9]*/cpufreq/"
    clocks: Dict[str, Any] = {}
    for key, file in (
        ("now", "scaling_cur_freq"),
        ("allowed", "scaling_max_freq"),
        ("possible", "cpuinfo_max_freq"),
        ("least", "scaling_min_freq"),
    ):
        values = [number(path) for path in below(root, folder + file)]
        clocks[key] = [value for value in values if value is not None]
    clocks["governors"] = sorted({read(path) or "?" for path in below(root, folder + "scaling_governor")})
    return clocks


def watched() -> Dict[str, Any]:
    """The number of cores that are busy just now, and up to three other processes that use them most.

    The load average would still include programs that ended up to a minute ago, such as a training of the same run.
    """
    cores, before, start = busy_ticks(), ticks(), time.monotonic()
    time.sleep(LOOK_S)
    after, cores_after = ticks(), busy_ticks()
    passed = (time.monotonic() - start) * os.sysconf("SC_CLK_TCK")
    shares = [((used - before.get(key, used)) / passed, key) for key, used in after.items()]
    top = sorted(shares, reverse=True)[:3]
    return {
        "busy": None if cores is None or cores_after is None else round((cores_after - cores) / passed, 2),
        "busiest": [
            {"pid": pid, "name": program, "share": round(share, 2)} for share, (pid, program) in top if share >= BUSY
        ],
    }


def busy_ticks() -> Optional[int]:
    """Ticks in which programs used a processor, summed over those that the agent may use."""
    counters = dict(re.findall(r"^cpu(\d+) (.*)", read("/proc/stat") or "", re.M))
    total = 0
    for core in os.sched_getaffinity(0):
        if str(core) not in counters:
            return None
        user, nice, system, _idle, _waiting, irq, softirq = map(int, counters[str(core)].split()[:7])
        total += user + nice + system + irq + softirq
    return total


def ticks() -> Dict[Any, int]:
    """Processor ticks used so far by each other process."""
    used = {}
    for path in below("/", "proc/[0-9]*/stat"):
        text = read(path)
        found = re.match(r"(\d+) \((.*)\) (.*)", text or "", re.S)
        if found and int(found.group(1)) != os.getpid():
            fields = found.group(3).split()
            used[(int(found.group(1)), found.group(2))] = int(fields[11]) + int(fields[12])
    return used
