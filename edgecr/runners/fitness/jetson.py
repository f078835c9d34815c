"""Warnings that concern Jetsons and other boards with a GPU: releases, real clocks, over-current, other programs."""

from __future__ import annotations

from collections.abc import Iterator

from edgecr.runners.device import Device
from edgecr.runners.fitness.facts import Facts
from edgecr.runners.fitness.jetpack import release_of, same_version

MHZ = 1e6
OVER_CURRENT = {"oc1": "under-voltage", "oc2": "average over-current", "oc3": "momentary over-current"}


def before_jetson(device: Device, facts: Facts) -> Iterator[str]:
    """Warnings about the state before measuring."""
    yield from _release(device, facts)
    yield from _gpu_clocks(facts)
    if users := facts.get("gpu_users"):
        names = ", ".join(f"{one['name']} (pid {one['pid']})" for one in users[:5])
        yield (
            f"Other programs hold the GPU: {names}. What they compute is in the measured time; stop them, "
            "and the desktop with sudo systemctl isolate multi-user.target."
        )
    slowed = [OVER_CURRENT.get(kind, kind) for kind, on in (facts.get("over_current_throttling") or {}).items() if on]
    if slowed:
        yield f"The board is slowed down just now: {', '.join(slowed)}. Use a stronger supply or a lower power mode."


def after_jetson(start: Facts, end: Facts) -> Iterator[str]:
    """Warnings about what happened while measuring."""
    events = grown(start.get("over_current") or {}, end.get("over_current") or {})
    if events:
        yield (
            f"Over-current events while measuring: {events}. Launches that had any give no absolute latency, the "
            "paired ratio stays. Lock the clocks (sudo jetson_clocks), or use a stronger supply."
        )
    modes = [(one.get("power_mode") or {}).get("name") for one in (start, end)]
    if modes[0] != modes[1]:
        yield f"The power mode changed from {modes[0]} to {modes[1]} while measuring: measure again."
    clocks = [(one.get("gpu_clocks") or {}).get("allowed") for one in (start, end)]
    if clocks[0] and clocks[1] and clocks[1] < clocks[0]:
        yield (
            f"The GPU's clock was limited from {clocks[0] / MHZ:.0f} to {clocks[1] / MHZ:.0f} MHz while measuring: "
            "cool the board, measure again."
        )


def grown(before: dict[str, int], after: dict[str, int]) -> str:
    """The over-current counters that rose, in words; empty if none did."""
    rises = {kind: count - before.get(kind, count) for kind, count in after.items()}
    return ", ".join(f"{OVER_CURRENT.get(kind, kind)} ({kind}) +{rise}" for kind, rise in rises.items() if rise > 0)


def release_words(facts: Facts) -> str:
    """The release of a Jetson in words; empty elsewhere."""
    version = facts.get("l4t_version")
    if not version:
        return ""
    known = release_of(version)
    return f"L4T {version} (JetPack {known.name})" if known else f"L4T {version}"


def _release(device: Device, facts: Facts) -> Iterator[str]:
    version, found = facts.get("l4t_version"), facts.get("tensorrt")
    known = release_of(version)
    if version and known is None:
        yield f"L4T {version} is not among the releases that EdgeCR knows: nothing is assumed about its JetPack."
    if device.kind == "jetson" and not version:
        yield "No release of L4T is told (/etc/nv_tegra_release, nvidia-l4t-core): this may be no Jetson."
    if known and known.tensorrt and found and not same_version(known.tensorrt, found):
        yield (
            f"TensorRT {found} is installed, JetPack {known.name} comes with {known.tensorrt}: engines and times "
            "are comparable with that version only."
        )


def _gpu_clocks(facts: Facts) -> Iterator[str]:
    clocks = facts.get("gpu_clocks") or {}
    least, allowed, possible = (clocks.get(name) for name in ("least", "allowed", "possible"))
    if allowed and possible and allowed < possible:
        mode = (facts.get("power_mode") or {}).get("name")
        named = f" in power mode {mode}" if mode else ""
        limit = f"{allowed / MHZ:.0f} of {possible / MHZ:.0f} MHz"
        yield f"The GPU may use {limit}{named}: compare only with the same limit."
    if least and allowed and least < allowed:
        yield (
            f"The GPU's clock follows the load, {least / MHZ:.0f} to {allowed / MHZ:.0f} MHz (governor "
            f"{clocks.get('governor') or 'unknown'}): short runs look slow. For steady numbers: sudo jetson_clocks."
        )
