"""Intervals for accuracies and for paired differences of accuracies.

* One accuracy: Wilson's score interval, with Poisson's limit where up to three images stand alone (Brown, Cai and
  DasGupta 2001): there Wilson's own covers the truth in 84 % of the cases only.
* Candidate minus baseline on the same images: Tango's score interval for paired proportions (Tango 1998).
  It keeps its coverage when few images are answered differently, and is not empty when none is.
* A mean over several corruptions: bootstrap over images, since the same image appears under every corruption and its
  answers are not independent; corrected for bias and skewness (BCa, Efron 1987), and for how few images may deviate.
* A mean distance of outputs, which has no upper bound: the same bootstrap, and no interval where few images deviate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from edgecr.core.estimate import Estimate

RESAMPLES = 2000
RARE = 3
"""Up to so many images, right or wrong, the normal law behind Wilson's interval is too crude."""
DISTINCT = 256
"""More different values than this are merged with their neighbours before images are drawn from them."""
FEW = 10
"""With fewer deviating images than this a bootstrap cannot see rare events, so its interval is widened."""


def wilson(right: float, images: int, confidence: float = 0.95) -> Estimate:
    """The accuracy ``right / images`` with Wilson's score interval."""
    z2 = _z(confidence) ** 2
    share = right / images
    centre = (share + z2 / (2 * images)) / (1 + z2 / images)
    half = math.sqrt(z2 * (share * (1 - share) / images + z2 / (4 * images**2))) / (1 + z2 / images)
    low, high = max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))
    low = min([low, *_rare(right, images, confidence)])
    high = max([high, *(1 - limit for limit in _rare(images - right, images, confidence))])
    return Estimate(share, low, high, confidence, samples=images, note="Wilson")


def _rare(count: float, images: int, confidence: float) -> list[float]:
    """The least share that a few images may stand for, by Poisson's law; empty when they are not few, or none."""
    if not 0 < count <= RARE:
        return []
    least = math.ceil(count)

    def surplus(rate: float) -> float:
        below = sum(math.exp(-rate) * rate**k / math.factorial(k) for k in range(least))
        return (1 - confidence) - (1 - below)

    return [_root(surplus, 0.0, count) / images]


def paired_difference(gained: int, lost: int, images: int, confidence: float = 0.95) -> Estimate:
    """``(gained - lost) / images`` with Tango's interval.

    ``gained`` images are right for the candidate only, ``lost`` ones for the baseline only.
    """
    z, value = _z(confidence), (gained - lost) / images
    low = _root(lambda d: _tango(gained, lost, images, d) - z, -1.0, value)
    high = _root(lambda d: _tango(gained, lost, images, d) + z, value, 1.0)
    return Estimate(value, low, high, confidence, samples=images, note="Tango, paired")


def mean_share(shares: np.ndarray, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """The mean of one share in [0, 1] for each image."""
    drawn = _bootstrap(shares, confidence, seed)
    if np.count_nonzero(shares != np.median(shares)) >= FEW:
        return drawn
    # A share varies at most as much as a right-or-wrong answer of equal mean: Wilson errs on the safe side.
    return _hull(drawn, wilson(float(shares.sum()), len(shares), confidence))


def mean_difference(differences: np.ndarray, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """The mean of one difference in [-1, 1] for each image."""
    drawn = _bootstrap(differences, confidence, seed)
    gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
    if gained + lost >= FEW:
        return drawn
    return _hull(drawn, paired_difference(gained, lost, len(differences), confidence))


def mean_distance(distances: np.ndarray, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """The mean of one number from 0 on for each image; too few that deviate cannot support an interval."""
    if np.count_nonzero(distances != np.median(distances)) >= FEW:
        return _bootstrap(distances, confidence, seed)
    return Estimate(float(distances.mean()), samples=len(distances), note="few images deviate")


def _bootstrap(values: np.ndarray, confidence: float, seed: int) -> Estimate:
    """Resamples images; drawing how often each distinct value occurs equals drawing images one by one."""
    distinct, counts = _merged(*np.unique(values, return_counts=True))
    images = len(values)
    draws = np.random.default_rng(seed).multinomial(images, counts / images, RESAMPLES) @ distinct / images
    value = float(values.mean())
    low, high = np.quantile(draws, _levels(values, draws, confidence))
    low, high = min(float(low), value), max(float(high), value)
    return Estimate(value, low, high, confidence, samples=images, note="bootstrap over images")


def _merged(distinct: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rising values and how often each occurs; many are merged to the means of neighbours, but for the largest.

    The tail of a skewed law decides its mean, so the largest half of what remains stays as it is.
    """
    spare = len(distinct) - DISTINCT // 2
    if len(distinct) <= DISTINCT:
        return distinct, counts
    starts = np.unique(np.linspace(0, spare, DISTINCT // 2, endpoint=False).astype(np.int64))
    merged = np.add.reduceat(counts[:spare], starts)
    means = np.add.reduceat(distinct[:spare] * counts[:spare], starts) / merged
    return np.concatenate([means, distinct[spare:]]), np.concatenate([merged, counts[spare:]])


def _levels(values: np.ndarray, draws: np.ndarray, confidence: float) -> list[float]:
    """The quantiles of the draws that bound a mean.

    The spread rests on the images that deviate: the quantile is Student's for that many (by Fisher's expansion).
    """
    law = NormalDist()
    rest = values - values.mean()
    squares = float((rest**2).sum())
    if squares == 0:
        return [(1 - confidence) / 2, (1 + confidence) / 2]
    skewness = float((rest**3).sum()) / (6 * squares**1.5)
    below = (np.count_nonzero(draws < values.mean()) + np.count_nonzero(draws <= values.mean())) / (2 * len(draws))
    bias = law.inv_cdf(min(max(below, 1 / len(draws)), 1 - 1 / len(draws)))
    z, deviating = _z(confidence), np.count_nonzero(values != np.median(values))
    wide = z + (z**3 + z) / (4 * max(1, deviating - 1))
    ends = (bias - wide, bias + wide)
    return [law.cdf(bias + end / (1 - skewness * end)) for end in ends]


def _hull(first: Estimate, second: Estimate) -> Estimate:
    low = min(each.low for each in (first, second) if each.low is not None)
    high = max(each.high for each in (first, second) if each.high is not None)
    note = f"bootstrap over images, widened to {second.note}: few images deviate"
    return Estimate(first.value, low, high, first.confidence, samples=first.samples, note=note)


def _tango(gained: int, lost: int, images: int, difference: float) -> float:
    """Tango's score statistic for a supposed difference; falls as the difference grows."""
    linear = -gained - lost + (2 * images - gained + lost) * difference
    constant = -lost * difference * (1 - difference)
    root = math.sqrt(max(linear**2 - 8 * images * constant, 0.0))
    lost_share = (root - linear) / (4 * images)
    variance = images * (2 * lost_share + difference * (1 - difference))
    surplus = gained - lost - images * difference
    if variance <= 1e-15:
        return math.copysign(math.inf, surplus) if abs(surplus) > 1e-12 else 0.0
    return surplus / math.sqrt(variance)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Finds the zero of a falling function by bisection; an end of the range when there is none."""
    for _ in range(60):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
