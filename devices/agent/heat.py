"""Facts about heat and its consequences: temperatures, throttling, over-current events."""

import os
import re
from typing import Dict, Optional

from . import tools
from .tree import below, hwmon, number, read

OFF = -50000  # thousandths of a degree; a block that is powered down reads -256 degrees


def temperatures(root: str = "/") -> Dict[str, float]:
    """Degrees Celsius of each thermal zone that answers; one that is off, or always busy, is left out."""
    zones = {}
    for zone in below(root, "sys/class/thermal/thermal_zone*"):
        value = number(zone + "/temp")
        if value is not None and value > OFF:
            zones[read(zone + "/type") or os.path.basename(zone)] = value / 1000.0
    return zones


def throttled(root: str = "/") -> Dict[str, Optional[int]]:
    """Throttling counters (x86) and flags (Raspberry Pi)."""
    counts = [
        number(path) for path in below(root, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
    ]
    known = [count for count in counts if count is not None]
    text = read(os.path.join(root, "sys/devices/platform/soc/soc:firmware/get_throttled"))
    return {"count": sum(known) if known else None, "flags": flags(text)}


def flags(text: Optional[str]) -> Optional[int]:
    """The flags of a Raspberry Pi, from its kernel (``50005``) or its tool (``throttled=0x50005``)."""
    found = re.match(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]+)$", text or "")
    return int(found.group(1), 16) if found else None


def told_flags() -> Optional[int]:
    """The same flags where only the Raspberry Pi's own tool tells them."""
    return flags(tools.told(["vcgencmd", "get_throttled"]))


def over_current(root: str = "/") -> Dict[str, int]:
    """Over-current events of a Jetson since boot (oc1 under-voltage, oc2 average, oc3 momentary); empty elsewhere."""
    return counts_of(root, "_event_cnt")


def over_current_throttling(root: str = "/") -> Dict[str, int]:
    """1 for each kind of over-current event that slows the board down just now."""
    return counts_of(root, "_throt_en")


def counts_of(root: str, ending: str) -> Dict[str, int]:
    """The numbers in the files of one ending, by what comes before it."""
    found = {}
    for name, folder in hwmon(root):
        for path in below(folder, "oc*" + ending) if name == "soctherm_oc" else ():
            value = number(path)
            if value is not None:
                found[os.path.basename(path)[: -len(ending)]] = value
    return found
