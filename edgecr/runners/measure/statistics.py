"""Pure functions over raw samples; intervals are over launches, never over the samples of one process.

The interval inside one process covers the truth in a third of the cases at best: a process keeps its memory
layout, and neighbours on the machine stay for seconds. Only fresh launches show that spread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev

from edgecr.estimate import Estimate

CONFIDENCE = 0.95
LEAST_SAMPLES: Mapping[int, int] = {50: 20, 90: 100, 99: 1000}
"""Ten samples must lie beyond a percentile (each side of the median) before it is worth a number."""
LEAST_FOR_DRIFT = 20
DRIFT_CHANGE, DRIFT_P = 0.03, 0.01


def percentile(samples: Sequence[float], percent: float) -> float:
    """The percentile with linear interpolation between neighbours."""
    ordered = sorted(samples)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def lack_of_samples(percent: int, count: int) -> str | None:
    """Why a percentile cannot be told from that many samples; None when it can."""
    needed = LEAST_SAMPLES[percent]
    if count >= needed:
        return None
    return f"p{percent} needs at least {needed} samples, there are {count}; ask for more rounds or launches"


LAUNCHES = 3
"""With two launches the t interval spans orders of magnitude: a number, but no information."""
TOO_FEW = f"fewer than {LAUNCHES} launches: no interval"


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


def paired_ratio(
    launches: Sequence[Sequence[tuple[float, float]]], confidence: float = CONFIDENCE
) -> Estimate:
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


def drift(series: Sequence[float]) -> float | None:
    """The relative change over a series if it is large (3 %) and no accident (p < 0.01); None otherwise."""
    if len(series) < LEAST_FOR_DRIFT:
        return None
    change = theil_sen(series) * (len(series) - 1) / median(series)
    return change if abs(change) > DRIFT_CHANGE and kendall_p(series) < DRIFT_P else None


def theil_sen(series: Sequence[float]) -> float:
    """The median slope of all pairs, per step."""
    pairs = [(j - i, series[j] - series[i]) for i in range(len(series)) for j in range(i + 1, len(series))]
    return median(rise / run for run, rise in pairs)


def kendall_p(series: Sequence[float]) -> float:
    """Two-sided p of Kendall's trend test, by its normal approximation with continuity correction."""
    count = len(series)
    score = sum(
        (series[j] > series[i]) - (series[j] < series[i]) for i in range(count) for j in range(i + 1, count)
    )
    spread = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return math.erfc(max(0, abs(score) - 1) / spread / math.sqrt(2))
