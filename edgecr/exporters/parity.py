"""Parity of an exported file with PyTorch: all named outputs, on real images and in several batch sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from edgecr.exporters.target import ParityLimits
from edgecr.predictors.base import Predictor
from edgecr.tasks import CLASSIFICATION, Outputs, Task

_SMALL_BATCHES = (1, 3)
_AT_MOST = 6
"""Small batches are only tried on this many images: they test shapes, the whole set tests numbers."""
_ONE_IN = 20
"""One image in so many may have outputs of another direction."""
_OTHER_PROCESSOR = 0.02
"""The cosine of a single image that another processor's rounding may cost."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class ParityResult:
    """Differences between two predictors; the worst of all outputs and batch sizes."""

    images: int
    batches: list[int]
    max_abs: float
    max_rel: float
    """The largest difference relative to the largest number of that output."""
    agreement: float
    """Fraction of images with the same answer to the task; a tie within the tolerance counts as the same."""
    output: str = "logits"
    """The output that differs most, relative to its numbers."""
    cosine: float = 1.0
    """The cosine between both outputs that 19 images in 20 reach."""

    def plain(self) -> dict[str, Any]:
        """The figures as plain JSON values; differences that are not finite become null."""
        return {key: None if value == float("inf") else value for key, value in asdict(self).items()}


def compare(
    reference: Predictor, candidate: Predictor, images: np.ndarray, allowed: ParityLimits, task: Task = CLASSIFICATION
) -> ParityResult:
    """Asks both for the outputs of the same images, one by one, by threes and all at once.

    Where fewer images are asked about, the others stand as they were answered all at once: a share is one of all.
    """
    expected = task.named(reference.predict(images))
    at_once = task.named(candidate.predict(images))
    results = [differences(expected, at_once, allowed, task)]
    batches = sorted({min(size, len(images)) for size in (*_SMALL_BATCHES, len(images))})
    for size in batches[:-1]:
        count = min(len(images), _AT_MOST)
        parts = [candidate.predict(images[start : min(start + size, count)]) for start in range(0, count, size)]
        given = [*(task.named(part) for part in parts), {name: each[count:] for name, each in at_once.items()}]
        results.append(differences(expected, {name: _joined(given, name) for name in expected}, allowed, task))
    return ParityResult(
        len(images),
        batches,
        max(r.max_abs for r in results),
        max(r.max_rel for r in results),
        min(r.agreement for r in results),
        max(results, key=lambda r: r.max_rel).output,
        min(r.cosine for r in results),
    )


def _joined(parts: Sequence[Outputs], name: str) -> np.ndarray:
    """The rows of all parts; none where they differ in shape, which nothing is comparable with."""
    rows = [part[name] for part in parts]
    return np.concatenate(rows) if len({each.shape[1:] for each in rows}) == 1 else rows[0][:0]


class Difference(NamedTuple):
    """Differences between the outputs for one batch size, as in a parity result."""

    max_abs: float
    max_rel: float
    agreement: float
    output: str
    cosine: float = 0.0


def differences(expected: Outputs, given: Outputs, allowed: ParityLimits, task: Task = CLASSIFICATION) -> Difference:
    """Largest absolute and relative difference, and the agreement; infinite and zero when not comparable."""
    wrong = [name for name in expected if not _comparable(expected[name], given[name])]
    if wrong:
        return Difference(float("inf"), float("inf"), 0.0, wrong[0])
    largest = {name: float(np.abs(_signed(expected[name]) - _signed(given[name])).max()) for name in expected}
    scales = {name: _scale(values) for name, values in expected.items()}
    ties = {name: _tie(allowed, scale) for name, scale in scales.items()}
    worst = max(largest, key=lambda name: largest[name] / scales[name])
    agreement = float(task.agreement(expected, given, ties).mean())
    cosine = min(_cosine(expected[name], given[name]) for name in expected)
    return Difference(max(largest.values()), largest[worst] / scales[worst], agreement, worst, cosine)


def limits_of_some(allowed: ParityLimits, expected: Outputs, some: Outputs, shown: Difference) -> ParityLimits:
    """The limits for some of the images alone, which passed together with all the others.

    A relative difference stays one from the largest number of all images. A share is one of whole images. What these
    showed of agreement and cosine is allowed: a few images may be worse than all of them.
    """
    relative, share, count = allowed.max_rel, allowed.agreement, max(map(len, some.values()))
    cosine = allowed.cosine
    if relative is not None:
        relative *= max(_scale(expected[name]) / _scale(some[name]) for name in some)
    if share is not None:
        share = min(math.floor(share * count + _ROUNDING) / count, shown.agreement)
    if cosine is not None and shown.cosine < cosine:
        cosine = shown.cosine - _OTHER_PROCESSOR
    return allowed._replace(max_rel=relative, agreement=share, cosine=cosine)


def _tie(allowed: ParityLimits, scale: float) -> float:
    """The difference up to which two answers are equally good: the smaller one of those that are judged."""
    relative = None if allowed.max_rel is None else allowed.max_rel * scale
    return min((limit for limit in (allowed.max_abs, relative) if limit is not None), default=0.0)


def _scale(values: np.ndarray) -> float:
    """The largest of some numbers; 1 where all are zero."""
    return float(np.abs(_signed(values)).max()) or 1.0


def _cosine(expected: np.ndarray, given: np.ndarray) -> float:
    """The cosine that 19 in 20 rows of two outputs reach; two rows of zeros point the same way.

    The worst image alone says little of a rounded file: where a network is undecided its outputs are short, and turn.
    """
    one, other = (each.reshape(len(each), -1).astype(np.float64) for each in (expected, given))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    same = (one == other).all(axis=1)
    cosines = np.divide((one * other).sum(axis=1), lengths, out=np.zeros(len(one)), where=lengths > 0)
    ordered = np.sort(np.where(same, 1.0, np.clip(cosines, -1.0, 1.0)))
    return float(ordered[len(ordered) // _ONE_IN])


def _comparable(expected: np.ndarray, given: np.ndarray) -> bool:
    return expected.shape == given.shape and bool(np.isfinite(expected).all() and np.isfinite(given).all())


def _signed(values: np.ndarray) -> np.ndarray:
    """The numbers as floats where they are whole: differences of unsigned ones would wrap around."""
    return values if np.issubdtype(values.dtype, np.floating) else values.astype(np.float64)


def failures(result: ParityResult, allowed: ParityLimits) -> list[str]:
    """The limits that a parity result breaks, in words with figures; empty when it passes."""
    if not np.isfinite(result.max_abs):
        return [f"output {result.output!r} cannot be compared: another shape, or values that are not finite"]
    found = []
    if allowed.max_abs is not None and result.max_abs > allowed.max_abs:
        figures = f"{result.max_abs:.3g} (allowed {allowed.max_abs:.3g})"
        found.append(f"outputs differ by up to {figures}{_hint(result, allowed)}")
    if allowed.max_rel is not None and result.max_rel > allowed.max_rel:
        figures = f"{result.max_rel:.3g} of its largest number (allowed {allowed.max_rel:.3g})"
        found.append(f"output {result.output!r} differs by up to {figures}")
    if allowed.agreement is not None and result.agreement < allowed.agreement:
        found.append(
            f"the same answer on {result.agreement:.2%} of {result.images} images (needed {allowed.agreement:.2%})"
        )
    if allowed.cosine is not None and result.cosine < allowed.cosine:
        found.append(
            f"19 images in 20 have a cosine of {result.cosine:.4f} or more of their outputs (needed {allowed.cosine})"
        )
    return found


def _hint(result: ParityResult, allowed: ParityLimits) -> str:
    """Advice for when only the absolute limit is too tight: the model's outputs are large numbers."""
    if allowed.max_rel is None or result.max_rel > allowed.max_rel:
        return ""
    return f", only {result.max_rel:.1g} of the largest; for such outputs widen `parity: max_abs` in the target"
