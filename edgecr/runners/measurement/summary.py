"""A measurement as figures: each an estimate with its doubt, or absent with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from edgecr.core.errors import UnknownName
from edgecr.core.estimate import Estimate
from edgecr.runners.fitness import stop_them
from edgecr.runners.measurement.contention import Contention
from edgecr.runners.measurement.figures import board_memory, course, energy_figures, energy_ratio, over_current_in
from edgecr.runners.measurement.record import Launch, MeasuredArm, Measurement, Rate, Round, Start
from edgecr.runners.measurement.statistics import (
    CONFIDENCE,
    LAUNCHES,
    drift,
    lack_of_samples,
    one_moment,
    over_launches,
    paired_ratio,
    percentile_of_launches,
    wait_share,
)

PERCENTILES = (50, 90, 99)
NO_TIME = "the clock of the device is too coarse for so short an inference"
UNTIMED = "nothing was timed"
BY_PROGRAM: Mapping[str, str] = {
    "cpu_ms": "not measured: the time is that of another processor, which the kernel does not count",
    "peak_memory_mb": "not measured: the runtime's memory is not that of a process; its own figure is under Engines",
    "load_ms": "not measured: the program that timed did not tell it",
    "first_ms": "not measured: the program that times does not tell its first inference apart",
}
"""Reasons for the absence of figures where a program of the board timed."""


@dataclass(frozen=True)
class ArmSummary:
    """The summary of one arm's samples; a figure that was not measured is None, and ``missing`` gives the reason."""

    label: str
    file: str
    runtime: str
    batch: int
    size_bytes: int
    p50_ms: Estimate | None = None
    p90_ms: Estimate | None = None
    p99_ms: Estimate | None = None
    cpu_ms: Estimate | None = None
    """Processor time of one inference; hardly disturbed by other programs."""
    sequential_throughput: Estimate | None = None
    """Images per second of one caller: batch / p50."""
    throughput: Estimate | None = None
    """Images per second, measured apart from latency with the best number of streams."""
    peak_memory_mb: Estimate | None = None
    """Megabytes (10^6 bytes) that the runtime and this model added to an empty process, at most."""
    board_memory_mb: Estimate | None = None
    """Megabytes by which the board's free memory fell while the model had a process to itself, at most."""
    energy_mj: Estimate | None = None
    """Millijoules of one inference, of the rails that its note names."""
    energy_net_mj: Estimate | None = None
    """The same without what the idle board takes."""
    load_ms: Estimate | None = None
    first_ms: Estimate | None = None
    wait_share: float | None = None
    """Share of the time in which the process waited for a processor."""
    drift: float | None = None
    """Relative change within launches, when it is no accident."""
    missing: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """Doubts about the figures that there are."""

    def plain(self) -> dict[str, Any]:
        """The summary as plain JSON values."""
        return {key: value.plain() if isinstance(value, Estimate) else value for key, value in vars(self).items()}


@dataclass(frozen=True)
class Comparison:
    """The candidate's time relative to the baseline's in one runtime and batch; below 1 is faster."""

    runtime: str
    batch: int
    ratio: Estimate | None
    cpu_ratio: Estimate | None
    conclusion: str
    energy_ratio: Estimate | None = None


def summarise(
    measurement: Measurement, levels: Mapping[int, float] | None = None, energy: float = CONFIDENCE
) -> list[ArmSummary]:
    """One summary for each arm; ``levels`` are confidences of percentiles, where they are not the usual one."""
    return [_summary(measurement, number, levels or {}, energy) for number in range(len(measurement.arms))]


def compare(
    measurement: Measurement,
    base: str,
    candidate: str,
    confidence: float = CONFIDENCE,
    energy: float = CONFIDENCE,
) -> list[Comparison]:
    """Paired ratios of two labels, for every runtime and batch that both were measured with."""
    labels = [arm.label for arm in measurement.arms]
    for label in (base, candidate):
        if label not in labels:
            raise UnknownName("label", label, labels)
    found = {(arm.label, arm.runtime, arm.batch): number for number, arm in enumerate(measurement.arms)}
    return [
        _comparison(measurement, found[base, arm.runtime, arm.batch], number, confidence, energy)
        for number, arm in enumerate(measurement.arms)
        if arm.label == candidate and (base, arm.runtime, arm.batch) in found
    ]


def turns(launch: Launch, arm: int) -> list[Round]:
    """The rounds of one arm in one launch."""
    return [one for one in launch.rounds if one.arm == arm]


def waiting(rounds: Sequence[Round]) -> float | None:
    """The share of waiting in some rounds."""
    return wait_share([(one.run_ns, one.wait_ns) for one in rounds])


def cpu_time(one: Round) -> float | None:
    """Processor nanoseconds of one call."""
    return None if one.run_ns is None else one.run_ns / len(one.ns)


def wall_time(one: Round) -> float:
    """The median of a round."""
    return median(one.ns)


def _summary(measurement: Measurement, number: int, levels: Mapping[int, float], energy: float) -> ArmSummary:
    arm = measurement.arms[number]
    told = [launch for launch in measurement.launches if turns(launch, number)]
    every = [turns(launch, number) for launch in told]
    whole = [one for rounds in every for one in rounds]
    shared = [text for launch in told if (text := _disturbed(measurement, launch, number))]
    undisturbed = [launch for launch in told if not _disturbed(measurement, launch, number)]
    calm = [turns(launch, number) for launch in undisturbed]
    reasons = _reasons(measurement)
    if any(one.program for one in whole):
        reasons |= BY_PROGRAM
    if every and not calm:
        reasons |= dict.fromkeys(LATENCIES, no_absolute(measurement, Contention.during(whole), told))
    latency = {
        f"p{percent}_ms": _percentile(percent, calm, reasons, levels.get(percent, CONFIDENCE))
        for percent in PERCENTILES
    }
    values: dict[str, Any] = latency | {
        "cpu_ms": _cpu(every),
        "sequential_throughput": _sequential(latency["p50_ms"], arm.batch),
        "throughput": _best_rate(measurement, number, reasons),
        "peak_memory_mb": _memory(measurement, number),
        "board_memory_mb": _board_memory(measurement, number),
        **energy_figures(measurement, number, undisturbed, shared[0] if shared else "", reasons, energy),
        "load_ms": _startup(measurement, number, lambda start: start.load_ns),
        "first_ms": _startup(measurement, number, lambda start: start.first_ns),
    }
    reasons["sequential_throughput"] = reasons["p50_ms"]
    change = drift([[cpu_time(one) or wall_time(one) for one in rounds] for rounds in every])
    return ArmSummary(
        **_identity(arm),
        **values,
        wait_share=waiting(whole),
        drift=change,
        missing={name: reasons[name] for name, value in values.items() if value is None},
        warnings=tuple(_doubts(measurement, number, change, shared if calm else [])),
    )


LATENCIES = tuple(f"p{percent}_ms" for percent in PERCENTILES)


def _reasons(measurement: Measurement) -> dict[str, str]:
    """The reason for each figure if it is absent, as far as the measurement as a whole gives it."""
    failed, asked = measurement.error, measurement.device.protocol.throughput
    names = (*LATENCIES, "load_ms", "first_ms")
    unasked = "not measured: the device's protocol does not ask for it"
    return dict.fromkeys(names, failed or UNTIMED) | {
        "cpu_ms": failed or "not measured: the device's kernel does not tell processor time",
        "throughput": (failed or UNTIMED) if asked else unasked,
        "peak_memory_mb": failed or "not measured: the device's kernel does not tell a process's peak memory",
        "board_memory_mb": failed or "not measured: only boards' free memory is watched, where their kernels tell it",
    }


def _shared(measurement: Measurement, spans: Sequence[Round] | Sequence[Rate]) -> str | None:
    return Contention.during(spans).reason(measurement.device.protocol)


def _disturbed(measurement: Measurement, launch: Launch, number: int) -> str | None:
    """The reason why a launch gives no absolute latency of an arm; None if it does."""
    return over_current_in(launch.watched) or _shared(measurement, turns(launch, number))


def _identity(arm: MeasuredArm) -> dict[str, Any]:
    return {
        "label": arm.label,
        "file": arm.file,
        "runtime": arm.runtime,
        "batch": arm.batch,
        "size_bytes": arm.size_bytes,
    }


def no_absolute(measurement: Measurement, contention: Contention, launches: Sequence[Launch]) -> str:
    """The reason why absolute latencies are left out, and the remedy."""
    events = next((text for launch in launches if (text := over_current_in(launch.watched))), "")
    reason = events or contention.reason(measurement.device.protocol) or "every launch was disturbed"
    remedy = (
        "Lock the clocks (sudo jetson_clocks), or use a stronger supply."
        if events
        else "Measure outside of the container, or where the kernel has CONFIG_SCHEDSTATS."
        if contention.wait is None
        else stop_them(measurement.facts)
    )
    return f"{reason[0].upper()}{reason[1:]}. Absolute latencies are not reported; the paired ratio is. {remedy}"


def _percentile(percent: int, calm: list[list[Round]], reasons: dict[str, str], confidence: float) -> Estimate | None:
    if not calm:
        return None
    launches = [[[time / 1e6 for time in one.ns] for one in rounds] for rounds in calm]
    pooled = [[time for turn in turns for time in turn] for turns in launches]
    lack = lack_of_samples(percent, sum(map(len, pooled))) or one_moment(percent, launches)
    if lack is None and min(map(median, pooled)) <= 0:
        lack = NO_TIME
    if lack:
        reasons[f"p{percent}_ms"] = lack
        return None
    return percentile_of_launches(pooled, percent, "ms", confidence)


def _cpu(every: list[list[Round]]) -> Estimate | None:
    launches = [[time / 1e6 for one in rounds if (time := cpu_time(one)) is not None] for rounds in every]
    values = [median(times) for times in launches if times]
    return over_launches(values, "ms", sum(map(len, launches))) if values else None


def _sequential(p50: Estimate | None, batch: int) -> Estimate | None:
    if p50 is None:
        return None
    low, high = (None if end is None else batch / end * 1e3 for end in (p50.high, p50.low))
    return Estimate(batch / p50.value * 1e3, low, high, p50.confidence, "images/s", p50.samples, "batch / p50")


def _best_rate(measurement: Measurement, number: int, reasons: dict[str, str]) -> Estimate | None:
    rates = [rate for alone in measurement.alone for rate in alone.rates if rate.arm == number and rate.calls]
    calm = [rate for rate in rates if not _shared(measurement, [rate])]
    if not calm:
        if rates:
            reason = _shared(measurement, rates) or "every measurement of it was disturbed"
            reasons["throughput"] = (
                f"{reason[0].upper()}{reason[1:]} while throughput was measured, so none is reported; "
                "stop other programs, and ask for no more streams than there are cores."
            )
        return None
    batch = measurement.arms[number].batch

    def speed(rate: Rate) -> float:
        return rate.calls * batch / rate.elapsed_ns * 1e9

    best = max(calm, key=speed)
    note = f"{best.streams} stream{'s' if best.streams > 1 else ''}, one process"
    return Estimate(speed(best), unit="images/s", samples=best.calls, note=note)


def _memory(measurement: Measurement, number: int) -> Estimate | None:
    for alone in measurement.alone:
        kb = alone.start.memory_kb
        empty, imported, most = kb.get("empty"), kb.get("imported"), kb.get("inferred")
        if alone.start.arm == number and empty is not None and imported is not None and most is not None:
            note = f"of which {megabytes(imported - empty):.0f} MB the runtime's own code"
            return Estimate(megabytes(most - empty), unit="MB", samples=1, note=note)
    return None


def _board_memory(measurement: Measurement, number: int) -> Estimate | None:
    return next((board_memory(one.watched) for one in measurement.alone if one.start.arm == number), None)


def megabytes(kb: int) -> float:
    """10^6 bytes, from what the kernel calls kB and counts as 1,024 bytes."""
    return kb * 1024 / 1e6


def _startup(measurement: Measurement, number: int, pick: Callable[[Start], int | None]) -> Estimate | None:
    starts = [start for launch in measurement.launches for start in launch.starts if start.arm == number]
    values = [time / 1e6 for start in starts if (time := pick(start)) is not None]
    return over_launches(values, "ms", len(values)) if values else None


def _doubts(measurement: Measurement, number: int, change: float | None, shared: list[str]) -> list[str]:
    doubts = []
    if shared:
        count = len([launch for launch in measurement.launches if turns(launch, number)])
        doubts.append(f"{len(shared)} of {count} launches give no absolute latency: {'; '.join(dict.fromkeys(shared))}")
    warmths = [one for launch in measurement.launches for one in launch.warmups if one.arm == number]
    restless = sum(not one.steady for one in warmths)
    if restless:
        doubts.append(
            f"not steady after warm-up in {restless} of {len(warmths)} launches; "
            "raise protocol.warmup.max_s or calm the machine"
        )
    if change is not None:
        meanwhile = course([state for launch in measurement.launches for state in launch.watched.states])
        told = f" ({meanwhile})" if meanwhile else ""
        doubts.append(
            f"drifted by {change * 100:+.0f} % within a launch{told}: let the board cool and measure again "
            "(the paired ratio is still valid)"
        )
    return doubts


def _comparison(measurement: Measurement, base: int, candidate: int, confidence: float, level: float) -> Comparison:
    arm = measurement.arms[candidate]
    ratio = _ratio(measurement, base, candidate, wall_time, confidence)
    cpu_ratio = _ratio(measurement, base, candidate, cpu_time)
    both = (base, candidate)
    calm = [one for one in measurement.launches if not any(_disturbed(measurement, one, arm) for arm in both)]
    energy = energy_ratio(measurement, base, candidate, calm, level)
    said = conclusion(measurement.arms[base].label, arm.label, ratio)
    return Comparison(arm.runtime, arm.batch, ratio, cpu_ratio, said, energy)


def _ratio(
    measurement: Measurement,
    base: int,
    candidate: int,
    time: Callable[[Round], float | None],
    confidence: float = CONFIDENCE,
) -> Estimate | None:
    launches = []
    for launch in measurement.launches:
        old, new = ({one.number: time(one) for one in turns(launch, arm)} for arm in (base, candidate))
        pairs = [(a, b) for number, a in old.items() if a and (b := new.get(number))]
        if pairs:
            launches.append(pairs)
    return paired_ratio(launches, confidence) if launches else None


def conclusion(base: str, candidate: str, ratio: Estimate | None) -> str:
    """The claim a ratio supports: a difference only if the interval excludes 1 and the change is over a percent."""
    if ratio is None:
        return f"{candidate} and {base} were not measured in the same rounds: no comparison."
    if ratio.low is None or ratio.high is None or ratio.confidence is None:
        return f"{candidate} / {base} = {ratio.value:.3f}: nothing is claimed from fewer than {LAUNCHES} launches."
    doubt = f"{ratio.confidence * 100:g} % interval {ratio.low:.3f} to {ratio.high:.3f}"
    if not ratio.differs:
        return f"No difference of {candidate} to {base} is claimed: time ratio {ratio.value:.3f} ({doubt})."
    if ratio.value < 1:
        speed = 1 / ratio.value
        return f"{candidate} is {speed:.2f}x as fast as {base}: time ratio {ratio.value:.3f} ({doubt})."
    return f"{candidate} is slower than {base}: it takes {ratio.value:.2f} times as long ({doubt})."
