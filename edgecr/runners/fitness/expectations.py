"""The state that a device's file expects of its board, held against the board's facts."""

from __future__ import annotations

from fnmatch import fnmatchcase

from edgecr.core.errors import DeviceFailed
from edgecr.runners.device import Device
from edgecr.runners.fitness.facts import Facts

MEGAHERTZ = 1e6


def refuse_unexpected(device: Device, facts: Facts) -> None:
    """Raises when the board is not in the state that its declaration asks for."""
    wrong = mismatches(device, facts)
    if wrong:
        raise DeviceFailed(
            f"Device {device.name!r} is not as its file expects: {'; '.join(wrong)}. "
            f"Put the board in that state, change 'expect:' in {device.declared_in}, or measure all the same "
            "with --force."
        )


def accept_unexpected(device: Device, facts: Facts, force: bool) -> list[str]:
    """The warnings that a forced measurement records; raises where nobody has forced it."""
    if not force:
        refuse_unexpected(device, facts)
    return [
        f"Measured by force, although {device.name} is not as its file expects: {one}."
        for one in mismatches(device, facts)
    ]


def mismatches(device: Device, facts: Facts) -> list[str]:
    """The differences between the board and what its file expects, each with the remedy where there is one."""
    checks = (_l4t, _tensorrt, _power_mode, _gpu_clock, _clocks_locked, _governor, _too_hot)
    return [text for check in checks if (text := check(device, facts))]


def locked(facts: Facts) -> bool | None:
    """True if neither GPU nor processor may change its clock; None where the board does not tell."""
    gpu, cpu = facts.get("gpu_clocks") or {}, facts["cpufreq"]
    pairs = [(gpu["least"], gpu["allowed"])] if gpu.get("least") and gpu.get("allowed") else []
    pairs += list(zip(cpu.get("least") or (), cpu["allowed"]))
    return all(least == most for least, most in pairs) if pairs else None


def _l4t(device: Device, facts: Facts) -> str | None:
    wanted, version = device.expect.l4t, facts.get("l4t_version")
    found = facts.get("l4t") or "nothing"
    if wanted is None or fnmatchcase(found, wanted) or (version and fnmatchcase(version, wanted)):
        return None
    return f"L4T is {version or found!r}, expected {wanted!r}"


def _tensorrt(device: Device, facts: Facts) -> str | None:
    wanted, found = device.expect.tensorrt, facts.get("tensorrt")
    if wanted is None or (found and fnmatchcase(found, wanted)):
        return None
    return f"TensorRT is {found or 'not installed'}, expected {wanted}"


def _power_mode(device: Device, facts: Facts) -> str | None:
    wanted, mode = device.expect.power_mode, facts.get("power_mode")
    if wanted is None or (mode and mode["name"] == wanted):
        return None
    found = mode["name"] if mode else "unknown (nvpmodel -q tells none)"
    return f"the power mode is {found}, expected {wanted}: see sudo nvpmodel -p --verbose, then sudo nvpmodel -m NUMBER"


def _gpu_clock(device: Device, facts: Facts) -> str | None:
    wanted, allowed = device.expect.gpu_mhz, (facts.get("gpu_clocks") or {}).get("allowed")
    if wanted is None or (allowed and allowed / MEGAHERTZ >= wanted):
        return None
    found = f"at most {allowed / MEGAHERTZ:.0f} MHz" if allowed else "not told"
    return (
        f"the GPU's clock is {found}, expected {wanted:g} MHz, whatever its power mode is called: "
        "choose another mode, or update the board's firmware"
    )


def _clocks_locked(device: Device, facts: Facts) -> str | None:
    wanted, found = device.expect.clocks_locked, locked(facts)
    if wanted is None or found is wanted:
        return None
    if found is None:
        return "nothing tells whether its clocks are locked"
    return "its clocks are not locked: sudo jetson_clocks" if wanted else "its clocks are locked: restart the board"


def _governor(device: Device, facts: Facts) -> str | None:
    wanted, found = device.expect.governor, facts["cpufreq"]["governors"]
    return None if wanted is None or found == [wanted] else f"governor is {found or 'unknown'}, expected {wanted!r}"


def _too_hot(device: Device, facts: Facts) -> str | None:
    limit, zones = device.expect.max_temperature_c, facts["temperatures"]
    hot = {name: value for name, value in zones.items() if limit is not None and value > limit}
    return f"hotter than {limit} C: {hot}; let it cool" if hot else None
