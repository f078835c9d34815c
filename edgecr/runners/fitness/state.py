"""Warnings about a machine that is in no fit state for measuring; each names its remedy."""

from __future__ import annotations

from collections.abc import Sequence

from edgecr.runners.device import Device
from edgecr.runners.fitness.facts import Facts
from edgecr.runners.fitness.jetson import after_jetson, before_jetson
from edgecr.runners.runtimes import RuntimeOptions
from edgecr.runners.runtimes.ort import ON_PROCESSOR, OrtOptions
from edgecr.runners.trust import hiding

LITTLE_MEMORY = 0.1
EVER_BUSY = 0.2
"""Cores that are busy on any system, whatever runs."""
PI_FLAGS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
NO_MODEL = "The board does not tell its model (/proc/device-tree/model): this may be no Raspberry Pi."
PROCESSOR = (
    "{runtime} computes on the processor of {name}: its GPU took no part. For TensorRT: "
    "edgecr export RUN --target tensorrt-jetpack6-fp16 (others: edgecr targets list), then measure that target."
)
SINCE_BOOT = 16
"""The flag of the same state at any time since the board was started lies so many bits higher."""


def before(device: Device, facts: Facts) -> list[str]:
    """Warnings about the state before measuring."""
    texts = [
        hiding(device),
        _load(device, facts),
        _threads(device, facts),
        _governor(facts),
        _capped(facts),
        _memory(facts),
        _no_pi(device, facts),
        _pi(facts),
        *before_jetson(device, facts),
    ]
    return [text for text in texts if text]


def unused_gpu(device: Device, runtimes: Sequence[str]) -> list[str]:
    """The warning that a board with TensorRT timed files on its processor."""
    if "tensorrt" not in device.runtimes or device.kind != "jetson":
        return []
    timed = [name for name in runtimes if _on_processor(device.runtimes[name])]
    return [PROCESSOR.format(name=device.name, runtime=name) for name in timed]


def no_energy(device: Device, facts: Facts) -> list[str]:
    """The warning that power is asked for on a board that tells of no sensor."""
    told = facts.get("power") or {}
    if device.power is None or told.get("source"):
        return []
    why = told.get("missing") or "the board tells of no power sensor"
    return [f"Energy is left out: {why}. For a board without one, remove 'power:' from {device.declared_in}."]


def _on_processor(options: RuntimeOptions) -> bool:
    return isinstance(options, OrtOptions) and options.providers == ON_PROCESSOR


def after(start: Facts, end: Facts) -> list[str]:
    """Warnings about what happened while measuring."""
    texts = [_swapped(start, end), _throttled(start, end), _pi_since(start, end), *after_jetson(start, end)]
    return [text for text in texts if text]


def busy_names(facts: Facts) -> str:
    """The programs that used the processor most, as text."""
    found = [f"{one['name']} (pid {one['pid']}, {one['share']:.0%} of a core)" for one in facts.get("busiest") or ()]
    return ", ".join(found) or "no single program stood out"


def stop_them(facts: Facts) -> str:
    """The sentence that says what to end before measuring again."""
    if not facts.get("busiest"):
        return "No single program stood out."
    return f"Stop these programs first: {busy_names(facts)}."


def _load(device: Device, facts: Facts) -> str | None:
    cores = facts["usable_cores"]
    busy = facts["busy"] if facts["busy"] is not None else facts["load"] or 0.0
    if busy + most_threads(device) <= cores + EVER_BUSY:
        return None
    return (
        f"{device.name} is busy ({busy:.1f} of {cores} cores): absolute latencies may be "
        f"left out, the paired ratio stays. {stop_them(facts)}"
    )


def _threads(device: Device, facts: Facts) -> str | None:
    threads, cores = most_threads(device), facts["usable_cores"]
    if threads <= cores:
        return None
    return (
        f"{threads} threads are declared, but only {cores} cores may be used: threads wait for each other. "
        f"Lower runtimes.*.threads in {device.declared_in}."
    )


def most_threads(device: Device) -> int:
    """The most threads that one of the device's runtimes uses."""
    return max((options.threads for options in device.runtimes.values()), default=1)


def _governor(facts: Facts) -> str | None:
    slow = [name for name in facts["cpufreq"]["governors"] if name != "performance"]
    if not slow:
        return None
    return (
        f"The frequency governor is {', '.join(slow)}: clocks follow the load, so short runs look slow. "
        "For steady numbers: sudo cpupower frequency-set -g performance."
    )


def _capped(facts: Facts) -> str | None:
    allowed, possible = facts["cpufreq"]["allowed"], facts["cpufreq"]["possible"]
    if not allowed or not possible or max(allowed) >= max(possible):
        return None
    return (
        f"Clocks are capped at {max(allowed) / 1e6:.2f} GHz of {max(possible) / 1e6:.2f} GHz; "
        "lift it with sudo cpupower frequency-set -u MAX, or keep it and compare only with itself."
    )


def _memory(facts: Facts) -> str | None:
    total, free = facts["memory"]["total_kb"], facts["memory"]["available_kb"]
    if not total or free is None or free >= LITTLE_MEMORY * total:
        return None
    return f"Only {free * 1024 / 1e6:.0f} MB of memory are free: the board may swap. Stop other programs."


def _no_pi(device: Device, facts: Facts) -> str | None:
    model = facts.get("model")
    if device.kind != "rpi" or "Raspberry Pi" in (model or ""):
        return None
    return f"The board calls itself {model!r}: this may be no Raspberry Pi." if model else NO_MODEL


def _pi(facts: Facts) -> str | None:
    flags = facts["throttled"]["flags"] or 0
    now = [text for bit, text in PI_FLAGS.items() if flags >> bit & 1]
    return f"The board reports {', '.join(now)}: use a stronger power supply or better cooling." if now else None


def _pi_since(start: Facts, end: Facts) -> str | None:
    """The flags that a Raspberry Pi raised meanwhile: those that say "since boot" are new."""
    before, after = ((facts["throttled"]["flags"] or 0) >> SINCE_BOOT for facts in (start, end))
    new = [text for bit, text in PI_FLAGS.items() if (after & ~before) >> bit & 1]
    if not new:
        return None
    return f"While measuring the board had {', '.join(new)}: use a stronger power supply or better cooling."


def _swapped(start: Facts, end: Facts) -> str | None:
    first, last = start["swapped_pages"], end["swapped_pages"]
    if first is None or last is None or last - first < 256:
        return None
    return f"The machine swapped {last - first} pages while measuring: free memory, then measure again."


def _throttled(start: Facts, end: Facts) -> str | None:
    first, last = start["throttled"]["count"], end["throttled"]["count"]
    if first is None or last is None or last <= first:
        return None
    return f"The processor throttled {last - first} times from heat while measuring: cool it, measure again."
