"""The processor's integer instructions, as far as they decide how weights are rounded."""

from __future__ import annotations

import platform
import re
from pathlib import Path

_ARM = {"aarch64", "arm64", "armv7l", "armv8l"}
_X86 = {"x86_64", "amd64", "i386", "i686"}
_FACTS = Path("/proc/cpuinfo")


def vnni() -> bool | None:
    """True where sums of uint8 x int8 products do not saturate; None where this machine does not say."""
    if platform.machine().lower() not in _X86:
        return True
    try:
        flags = re.search(r"^flags\s*:(.*)$", _FACTS.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return None if flags is None else not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags[1].split())


def on_arm() -> bool:
    """True on an ARM processor."""
    return platform.machine().lower() in _ARM
