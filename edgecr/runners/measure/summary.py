"""A measurement as figures: each an estimate with its doubt, or absent with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from edgecr.errors import UnknownName
from edgecr.estimate import Estimate
from edgecr.runners.fitness import busy_names
from edgecr.runners.measure.statistics import (
    drift,
    lack_of_samples,
    over_launches,
    paired_ratio,
    percentile,
    wait_share,
)
from edgecr.runners.measurement import Launch, MeasuredArm, Measurement, Rate, Round, Start

SMALLEST_CLAIM = 0.01


@dataclass(frozen=True)
class ArmSummary:
    """What one arm's samples say; a figure that nobody measured is None, and ``missing`` tells why."""

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
    """MiB that the runtime and this model added to an empty process, at most."""
    load_ms: Estimate | None = None
    first_ms: Estimate | None = None
    wait_share: float | None = None
    """Share of the time in which the process waited for a processor."""
    drift: float | None = None
    """Relative change over the session, when it is no accident."""
    missing: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """The summary as plain JSON values."""
        return {
            key: value.plain() if isinstance(value, Estimate) else value for key, value in vars(self).items()
        }


@dataclass(frozen=True)
class Comparison:
    """How the candidate's time relates to the baseline's in one runtime and batch; below 1 is faster."""

    runtime: str
    batch: int
    ratio: Estimate | None
    cpu_ratio: Estimate | None
    conclusion: str


def summarise(measurement: Measurement) -> list[ArmSummary]:
    """One summary for each arm."""
    return [_summary(measurement, number) for number in range(len(measurement.arms))]


def compare(measurement: Measurement, base: str, candidate: str) -> list[Comparison]:
    """Paired ratios of two labels, for every runtime and batch that both were measured with."""
    labels = [arm.label for arm in measurement.arms]
    for label in (base, candidate):
        if label not in labels:
            raise UnknownName("label", label, labels)
    found = {(arm.label, arm.runtime, arm.batch): number for number, arm in enumerate(measurement.arms)}
    return [
        _comparison(measurement, found[base, arm.runtime, arm.batch], number)
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


def wall_time(one: Round) -> float | None:
    """The median of a round."""
    return median(one.ns)


def _summary(measurement: Measurement, number: int) -> ArmSummary:
    arm = measurement.arms[number]
    every = [rounds for launch in measurement.launches if (rounds := turns(launch, number))]
    whole = [one for rounds in every for one in rounds]
    calm = [rounds for rounds in every if (waiting(rounds) or 0) < measurement.device.protocol.gate_wait]
    missing: dict[str, str] = {}
    latency = {f"p{percent}_ms": _percentile(percent, calm, missing) for percent in (50, 90, 99)}
    if every and not calm:
        missing |= dict.fromkeys(latency, busy_text(measurement, waiting(whole)))
    values: dict[str, Any] = latency | {
        "cpu_ms": _cpu(every),
        "sequential_throughput": _sequential(latency["p50_ms"], arm.batch),
        "throughput": _best_rate(measurement, number),
        "peak_memory_mb": _memory(measurement, number),
        "load_ms": _startup(measurement, number, lambda start: start.load_ns),
        "first_ms": _startup(measurement, number, lambda start: start.first_ns),
    }
    if "p50_ms" in missing:
        missing["sequential_throughput"] = missing["p50_ms"]
    for key in (key for key, value in values.items() if value is None):
        missing.setdefault(key, _absent(measurement))
    change = drift([time for one in whole if (time := cpu_time(one)) is not None])
    return ArmSummary(
        **_identity(arm),
        **values,
        wait_share=waiting(whole),
        drift=change,
        missing=missing,
        warnings=tuple(_doubts(measurement, number, change)),
    )


def _identity(arm: MeasuredArm) -> dict[str, Any]:
    return {
        "label": arm.label,
        "file": arm.file,
        "runtime": arm.runtime,
        "batch": arm.batch,
        "size_bytes": arm.size_bytes,
    }


def _absent(measurement: Measurement) -> str:
    return (
        measurement.error
        or "not measured: the device's protocol does not ask for it, or its kernel does not tell"
    )


def busy_text(measurement: Measurement, share: float | None) -> str:
    """Why absolute latencies are left out on a busy machine."""
    return (
        f"The CPU was shared (run-queue wait {share or 0:.0%}). Absolute latencies are not reported; "
        f"the paired ratio is. Stop: {busy_names(measurement.facts)}."
    )


def _percentile(percent: int, calm: list[list[Round]], missing: dict[str, str]) -> Estimate | None:
    launches = [[time / 1e6 for one in rounds for time in one.ns] for rounds in calm]
    count = sum(len(times) for times in launches)
    lack = lack_of_samples(percent, count)
    if lack:
        if calm:
            missing[f"p{percent}_ms"] = lack
        return None
    return over_launches([percentile(times, percent) for times in launches], "ms", count)


def _cpu(every: list[list[Round]]) -> Estimate | None:
    launches = [[time / 1e6 for one in rounds if (time := cpu_time(one)) is not None] for rounds in every]
    values = [median(times) for times in launches if times]
    return over_launches(values, "ms", sum(map(len, launches))) if values else None


def _sequential(p50: Estimate | None, batch: int) -> Estimate | None:
    if p50 is None:
        return None
    low, high = (None if end is None else batch / end * 1e3 for end in (p50.high, p50.low))
    return Estimate(
        batch / p50.value * 1e3, low, high, p50.confidence, "images/s", p50.samples, "batch / p50"
    )


def _best_rate(measurement: Measurement, number: int) -> Estimate | None:
    rates = [rate for alone in measurement.alone for rate in alone.rates if rate.arm == number and rate.calls]
    if not rates:
        return None
    batch = measurement.arms[number].batch

    def speed(rate: Rate) -> float:
        return rate.calls * batch / rate.elapsed_ns * 1e9

    best = max(rates, key=speed)
    note = f"{best.streams} stream{'s' if best.streams > 1 else ''}, one process"
    return Estimate(speed(best), unit="images/s", samples=best.calls, note=note)


def _memory(measurement: Measurement, number: int) -> Estimate | None:
    for alone in measurement.alone:
        kb = alone.start.memory_kb
        empty, imported, most = kb.get("empty"), kb.get("imported"), kb.get("inferred")
        if alone.start.arm == number and empty is not None and imported is not None and most is not None:
            note = f"of which {(imported - empty) / 1024:.0f} MiB the runtime's own code"
            return Estimate((most - empty) / 1024, unit="MiB", samples=1, note=note)
    return None


def _startup(measurement: Measurement, number: int, pick: Callable[[Start], int]) -> Estimate | None:
    starts = [start for launch in measurement.launches for start in launch.starts if start.arm == number]
    values = [pick(start) / 1e6 for start in starts]
    return over_launches(values, "ms", len(values)) if values else None


def _doubts(measurement: Measurement, number: int, change: float | None) -> list[str]:
    doubts = []
    warmths = [one for launch in measurement.launches for one in launch.warmups if one.arm == number]
    restless = sum(not one.steady for one in warmths)
    if restless:
        doubts.append(
            f"not steady after warm-up in {restless} of {len(warmths)} launches; "
            "raise protocol.warmup.max_s or calm the machine"
        )
    if change is not None:
        doubts.append(
            f"drifted by {change:+.0%} during the session: let the board cool and measure again "
            "(the paired ratio is still valid)"
        )
    return doubts


def _comparison(measurement: Measurement, base: int, candidate: int) -> Comparison:
    arm = measurement.arms[candidate]
    ratio = _ratio(measurement, base, candidate, wall_time)
    cpu_ratio = _ratio(measurement, base, candidate, cpu_time)
    return Comparison(
        arm.runtime, arm.batch, ratio, cpu_ratio, conclusion(measurement.arms[base].label, arm.label, ratio)
    )


def _ratio(
    measurement: Measurement, base: int, candidate: int, time: Callable[[Round], float | None]
) -> Estimate | None:
    launches = []
    for launch in measurement.launches:
        old, new = ({one.number: time(one) for one in turns(launch, arm)} for arm in (base, candidate))
        pairs = [(a, b) for number, a in old.items() if a and (b := new.get(number))]
        if pairs:
            launches.append(pairs)
    return paired_ratio(launches) if launches else None


def conclusion(base: str, candidate: str, ratio: Estimate | None) -> str:
    """What may be claimed: a difference only if the interval excludes 1 and the change is over a percent."""
    if ratio is None:
        return f"{candidate} and {base} were not measured in the same rounds: no comparison."
    if ratio.low is None or ratio.high is None or ratio.confidence is None:
        return f"{candidate} / {base} = {ratio.value:.3f} in one launch: nothing is claimed; use at least 3."
    doubt = f"{ratio.confidence:.0%} interval {ratio.low:.3f} to {ratio.high:.3f}"
    if ratio.low <= 1 <= ratio.high or abs(ratio.value - 1) <= SMALLEST_CLAIM:
        return f"No difference of {candidate} to {base} is claimed: time ratio {ratio.value:.3f} ({doubt})."
    if ratio.value < 1:
        speed = 1 / ratio.value
        return f"{candidate} is {speed:.2f}x as fast as {base}: time ratio {ratio.value:.3f} ({doubt})."
    return f"{candidate} is slower than {base}: it takes {ratio.value:.2f} times as long ({doubt})."
