"""Read-only facts about the board, from /proc and /sys; a fact that cannot be read is None."""

import glob
import os
import platform
import re
import shutil
import sys
import time
from typing import Any, Dict, Optional, Sequence

LIBRARIES = ("numpy", "tensorrt")  # besides the packages that the host asks for
LOOK_S = 0.2  # how long the processors are watched
BUSY = 0.05  # share of one core from which a process is worth naming


def facts(work: str, packages: Sequence[str] = ()) -> Dict[str, Any]:
    """Everything that a measurement may depend on; of the packages, the versions that are there."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "os": match("/etc/os-release", r'PRETTY_NAME="?([^"\n]+)'),
        "model": read("/proc/device-tree/model"),
        "l4t": read("/etc/nv_tegra_release"),
        "cpu": match("/proc/cpuinfo", r"model name\s*:\s*(.+)"),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "load": load(),
        **watched(),
        "memory": memory(),
        "swapped_pages": swapped(),
        "disk_free": shutil.disk_usage(work).free,
        "cpufreq": frequencies(),
        "temperatures": temperatures(),
        "throttled": throttled(),
        "libraries": libraries(packages),
    }


def read(path: str, most: int = 65536) -> Optional[str]:
    """The text of a small file."""
    try:
        with open(path, "rb") as file:
            return file.read(most).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return None


def match(path: str, pattern: str) -> Optional[str]:
    """The first group of a pattern in a file."""
    found = re.search(pattern, read(path) or "")
    return found.group(1).strip() if found else None


def number(path: str) -> Optional[int]:
    """The one number in a file."""
    text = read(path)
    return int(text, 0) if text and re.match(r"-?(0x[0-9a-fA-F]+|\d+)$", text) else None


def load() -> Optional[float]:
    """The load average of the last minute."""
    text = read("/proc/loadavg")
    return float(text.split()[0]) if text else None


def memory() -> Dict[str, Optional[int]]:
    """Kilobytes of memory and swap."""
    keys = {
        "total_kb": "MemTotal",
        "available_kb": "MemAvailable",
        "swap_total_kb": "SwapTotal",
        "swap_free_kb": "SwapFree",
    }
    found = {key: match("/proc/meminfo", name + r":\s+(\d+)") for key, name in keys.items()}
    return {key: int(value) if value else None for key, value in found.items()}


def swapped() -> Optional[int]:
    """Pages moved to or from swap since the start."""
    counts = re.findall(r"^pswp(?:in|out) (\d+)$", read("/proc/vmstat") or "", re.M)
    return sum(int(count) for count in counts) if counts else None


def frequencies() -> Dict[str, Any]:
    """Governors and clocks (kHz) of the cores."""
    root = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/"
    clocks: Dict[str, Any] = {}
    for key, name in (
        ("now", "scaling_cur_freq"),
        ("allowed", "scaling_max_freq"),
        ("possible", "cpuinfo_max_freq"),
    ):
        values = [number(path) for path in sorted(glob.glob(root + name))]
        clocks[key] = [value for value in values if value is not None]
    clocks["governors"] = sorted({read(path) or "?" for path in glob.glob(root + "scaling_governor")})
    return clocks


def temperatures() -> Dict[str, float]:
    """Degrees Celsius of each thermal zone that is on."""
    zones = {}
    for zone in sorted(glob.glob("/sys/class/thermal/thermal_zone*")):
        value = number(zone + "/temp")
        if value is not None and value > -50000:  # -256 degrees: the block is powered down
            zones[read(zone + "/type") or zone] = value / 1000.0
    return zones


def throttled() -> Dict[str, Optional[int]]:
    """Throttling counters (x86) and flags (Raspberry Pi)."""
    counts = [
        number(path) for path in glob.glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
    ]
    known = [count for count in counts if count is not None]
    text = read("/sys/devices/platform/soc/soc:firmware/get_throttled")
    return {"count": sum(known) if known else None, "flags": int(text, 16) if text else None}


def libraries(packages: Sequence[str]) -> Dict[str, str]:
    """Versions of numpy and of runtimes, from what their installers left; nothing is imported for it."""
    found: Dict[str, str] = {}
    for folder in sys.path:
        for name in (*LIBRARIES, *packages):
            for info in sorted(glob.glob(os.path.join(glob.escape(folder), glob.escape(name) + "-*.dist-info"))):
                found.setdefault(name, os.path.basename(info)[len(name) + 1 : -len(".dist-info")])
    return found


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
            {"pid": pid, "name": name, "share": round(share, 2)} for share, (pid, name) in top if share >= BUSY
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
    for path in glob.glob("/proc/[0-9]*/stat"):
        text = read(path)
        found = re.match(r"(\d+) \((.*)\) (.*)", text or "", re.S)
        if found and int(found.group(1)) != os.getpid():
            fields = found.group(3).split()
            used[(int(found.group(1)), found.group(2))] = int(fields[11]) + int(fields[12])
    return used
