"""Pure functions over raw samples; intervals are over launches, never over the samples of one process.

The interval inside one process covers the truth in a third of the cases at best: a process keeps its memory
layout, and neighbours on the machine stay for seconds. Only fresh launches show that spread.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from statistics import fmean, median, stdev

from edgecr.core.estimate import Estimate

CONFIDENCE = 0.95
LEAST_SAMPLES: Mapping[int, int] = {50: 20, 90: 100, 99: 1000}
"""Ten samples must lie beyond a percentile (each side of the median) before it is worth a number."""
LEAST_TURNS = 5
"""Slow calls that come from fewer turns tell of one moment, not of the model."""
LEAST_FOR_DRIFT = 20
"""Turns, of one launch or of all together, below which no test can tell drift from chance."""
DRIFT_CHANGE, DRIFT_P = 0.03, 0.01


def percentile(samples: Sequence[float], percent: float) -> float:
    """The percentile with linear interpolation; the i-th of n samples stands for the share ``(i - 1/2) / n``."""
    ordered = sorted(samples)
    place = min(max(len(ordered) * percent / 100 - 0.5, 0), len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def lack_of_samples(percent: int, count: int) -> str | None:
    """The reason why that many samples cannot support a percentile; None if they can."""
    needed = LEAST_SAMPLES[percent]
    if count >= needed:
        return None
    return f"p{percent} needs at least {needed} samples, there are {count}; ask for more rounds or launches"


def one_moment(percent: int, launches: Sequence[Sequence[Sequence[float]]]) -> str | None:
    """The reason why a percentile reflects too few moments, for launches as turns of samples; None if it does not."""
    levelled = [
        [[time / middle for time in turn] for turn in turns]
        for turns in launches
        if (middle := median(time for turn in turns for time in turn)) > 0
    ]
    every = [turn for turns in levelled for turn in turns]
    if percent <= 50 or not every:
        return None
    end = percentile([time for turn in every for time in turn], percent)
    slow = sum(max(turn) >= end for turn in every)
    if slow >= LEAST_TURNS:
        return None
    return (
        f"the slowest {100 - percent} % of the calls come from {slow} of {len(every)} turns: p{percent} would tell "
        "of one moment; ask for more rounds or launches"
    )


LAUNCHES = 3
"""With two launches the t interval spans orders of magnitude: a number, but no information."""
TOO_FEW = f"fewer than {LAUNCHES} launches: no interval"


def percentile_of_launches(
    launches: Sequence[Sequence[float]], percent: int, unit: str, confidence: float = CONFIDENCE
) -> Estimate:
    """The percentile in a typical launch, from positive samples.

    Launches are brought to one median and pooled. Each alone may hold too few samples for the tail, so that its own
    percentile is mostly too low; not brought to one median, their offsets would pass for a tail. The interval is over
    the launches' own percentiles: they spread by offsets and by tails.
    """
    middles = [percentile(times, 50) for times in launches]
    pooled = [time / middle for times, middle in zip(launches, middles) for time in times]
    value = math.exp(fmean(map(math.log, middles))) * percentile(pooled, percent)
    interval = log_interval([percentile(times, percent) for times in launches], confidence)
    if interval is None:
        return Estimate(value, unit=unit, samples=len(pooled), note=TOO_FEW)
    centre, half = math.sqrt(interval[0] * interval[1]), math.sqrt(interval[1] / interval[0])
    low, high = min(centre, value) / half, max(centre, value) * half
    return Estimate(value, low, high, confidence, unit, len(pooled))


def over_launches(
    values: Sequence[float], unit: str, samples: int, note: str = "", confidence: float = CONFIDENCE
) -> Estimate:
    """The median of one positive value a launch, with a t interval of the logarithms if they suffice."""
    middle = median(values)
    interval = log_interval(values, confidence)
    if interval is None:
        return Estimate(middle, unit=unit, samples=samples, note=note or TOO_FEW)
    low, high = min(interval[0], middle), max(interval[1], middle)
    return Estimate(middle, low, high, confidence, unit, samples, note)


def paired_ratio(launches: Sequence[Sequence[tuple[float, float]]], confidence: float = CONFIDENCE) -> Estimate:
    """Candidate / baseline, given as pairs of the same round: median a launch, t interval over launches."""
    values = [math.exp(median(math.log(new / old) for old, new in pairs)) for pairs in launches]
    interval = log_interval(values, confidence)
    centre = math.exp(fmean(math.log(value) for value in values))
    rounds = sum(len(pairs) for pairs in launches)
    if interval is None:
        return Estimate(centre, unit="ratio", samples=rounds, note=TOO_FEW)
    return Estimate(centre, *interval, confidence, "ratio", rounds)


def log_interval(values: Sequence[float], confidence: float) -> tuple[float, float] | None:
    """The t interval of the geometric mean; None for a zero, or for too few values to say anything useful."""
    if len(values) < LAUNCHES or min(values) <= 0:
        return None
    logs = [math.log(value) for value in values]
    half = t_quantile(confidence, len(logs) - 1) * stdev(logs) / math.sqrt(len(logs))
    return math.exp(fmean(logs) - half), math.exp(fmean(logs) + half)


@lru_cache(maxsize=64)
def t_quantile(confidence: float, freedom: int) -> float:
    """The two-sided quantile of Student's t: ``P(|T| < t) = confidence``."""
    low, high = 0.0, 1.0
    while t_within(high, freedom) < confidence:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < confidence else (low, middle)
    return high


def t_within(t: float, freedom: int) -> float:
    """``P(|T| < t)`` for whole degrees of freedom (finite sums, Abramowitz and Stegun 26.7.3-4)."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for step in range(2 + odd, freedom + 1, 2):
        total += term
        term *= (step - 1) / step * math.cos(angle) ** 2
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total


def wait_share(turns: Sequence[tuple[int | None, int | None]]) -> float | None:
    """Share of the wanted processor time that was waiting, from (run, wait); None if the kernel is silent."""
    known = [(run, wait) for run, wait in turns if run is not None and wait is not None]
    total = sum(run + wait for run, wait in known)
    return sum(wait for _, wait in known) / total if total else None


def drift(launches: Iterable[Sequence[float]]) -> float | None:
    """The relative change within launches if it is large (3 %) and no accident (p < 0.01); None otherwise.

    Ramps (Kendall, Theil and Sen) and steps (Pettitt) are looked for in each launch and in all of them together. Each
    launch is divided by its own median before: launches differ, and that is no drift.
    """
    levelled = [
        [value / middle for value in series]
        for series in map(shortened, launches)
        if len(series) > 1 and (middle := median(series)) > 0
    ]
    groups = [levelled, *([series] for series in levelled)] if len(levelled) > 1 else [levelled]
    tested = [group for group in groups if sum(map(len, group)) >= LEAST_FOR_DRIFT]
    return max((change for group in tested if (change := _change(group)) is not None), key=abs, default=None)


def _change(group: Sequence[Sequence[float]]) -> float | None:
    """The relative size of the ramp or step that all series share; of the one that explains more, if both are there."""
    slope, (place, step_p) = theil_sen(group), pettitt(group)
    before = median(value for series in group for value in series[:place])
    after = median(value for series in group for value in series[place:])
    ramp, step = slope * (max(map(len, group)) - 1), after / before - 1 if before else 0.0
    found = [
        (_unexplained(group, shape), change)
        for change, p, shape in (
            (ramp, kendall_p(group), lambda turn: slope * turn),
            (step, step_p, lambda turn: step * (turn >= place)),
        )
        if abs(change) > DRIFT_CHANGE and p < DRIFT_P
    ]
    return min(found)[1] if found else None


MOST_TURNS = 300
"""Turns that the tests of drift look at; their time grows with the square."""


def shortened(series: Sequence[float]) -> list[float]:
    """A long series as the medians of equal parts: of hours of turns the course is what matters."""
    if len(series) <= MOST_TURNS:
        return list(series)
    ends = [round(part * len(series) / MOST_TURNS) for part in range(MOST_TURNS + 1)]
    return [median(series[start:end]) for start, end in itertools.pairwise(ends)]


def _unexplained(group: Sequence[Sequence[float]], shape: Callable[[int], float]) -> float:
    """The sum of absolute deviations from a shape; each series has a level of its own."""
    rests = [[value - shape(turn) for turn, value in enumerate(series)] for series in group]
    return sum(abs(rest - median(own)) for own in rests for rest in own)


def theil_sen(group: Sequence[Sequence[float]]) -> float:
    """The median slope of all pairs within a series, per step."""
    return median(
        (series[j] - series[i]) / (j - i)
        for series in group
        for i in range(len(series))
        for j in range(i + 1, len(series))
    )


def kendall_p(group: Sequence[Sequence[float]]) -> float:
    """Two-sided p of Kendall's trend test over all series, by its normal approximation with continuity correction."""
    score = sum(
        _sign(series[j] - series[i]) for series in group for i in range(len(series)) for j in range(i + 1, len(series))
    )
    spread = math.sqrt(sum(count * (count - 1) * (2 * count + 5) / 18 for count in map(len, group)))
    return math.erfc(max(0, abs(score) - 1) / spread / math.sqrt(2))


def pettitt(group: Sequence[Sequence[float]]) -> tuple[int, float]:
    """The likeliest place of a step, as the number of values before it, and its p by Pettitt's approximation."""
    places = range(1, max(map(len, group)))
    score, scores = 0, []
    for place in places:
        score += sum(_sign(series[place - 1] - other) for series in group if place <= len(series) for other in series)
        scores.append(score)
    best = max(places, key=lambda place: abs(scores[place - 1]))
    spread = sum(count**3 + count**2 for count in map(len, group))
    return best, min(1.0, 2 * math.exp(-6 * scores[best - 1] ** 2 / spread))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
