"""Results in miniature that the tests of this folder judge and draw."""

import numpy as np

from edgecr.core.estimate import Estimate
from edgecr.report.build import build_result
from edgecr.report.result import LatencyRow, ModelRow, Timing
from edgecr.robustness.result import RobustnessResult
from edgecr.robustness.suites import suites

IMAGES = 200


def answered(lost, suite="noise5"):
    """The baseline is always right; the candidate errs on that many images, by condition."""
    labels = np.arange(IMAGES) % 4
    sure = np.full(IMAGES, 0.9, dtype=np.float32)
    answers = {}
    for condition in suites.get(suite).conditions:
        choices = labels.copy()
        choices[: lost.get(condition, 0)] += 1
        answers[condition] = {
            "baseline": {"choices": labels, "probabilities": sure},
            "candidate": {"choices": choices, "probabilities": sure},
        }
    return RobustnessResult(suite, 0, np.arange(IMAGES), labels, answers)


def timing(p50, p99=None):
    estimate = Estimate(p50, p50 * 0.95, p50 * 1.05, 0.95, "ms", 300)
    return Timing(estimate, estimate, p99, throughput=Estimate(1000 / p50), memory=Estimate(100.0))


def latency(ratio=0.5, device="cpu", batch=1):
    arms = {"baseline": timing(4.0), "candidate": timing(4.0 * ratio)}
    return LatencyRow(device, batch, arms, {"p50": Estimate(ratio, ratio - 0.05, ratio + 0.05, 0.95)})


def models(size=400_000):
    return [
        ModelRow("baseline", "resnet20", 272_474, 40_813_184, 1_000_000, "onnx"),
        ModelRow("candidate", "resnet20, cut <1>", 100_000, 20_000_000, size, "onnx"),
    ]


def result(**parts):
    return build_result(name="x", id="x-1", gates={}, **parts)
