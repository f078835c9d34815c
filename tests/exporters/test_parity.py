from __future__ import annotations

import json

import numpy as np
import pytest

from edgecr.exporters.base import Parity, ParityLimits
from edgecr.exporters.parity import ParityResult, compare, differences, failures
from edgecr.predictors import Predictor


class Fixed(Predictor):
    """Answers with rows of a table; the first pixel says which row."""

    def __init__(self, table: np.ndarray, breaks_at: int | None = None) -> None:
        self.table, self.breaks_at, self.seen = table, breaks_at, []

    def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.seen.append(len(images))
        answers = self.table[images[:, 0, 0, 0]].astype(np.float32)
        return {"logits": answers + 1 if len(images) == self.breaks_at else answers}


def numbered(count: int) -> np.ndarray:
    return np.repeat(np.arange(count, dtype=np.uint8), 3).reshape(count, 1, 1, 3)


TABLE = np.arange(40, dtype=np.float32).reshape(10, 4)


def test_equal_predictors_agree_in_all_batch_sizes():
    candidate = Fixed(TABLE)
    result = compare(Fixed(TABLE), candidate, numbered(10), ParityLimits())
    assert result == ParityResult(10, [1, 3, 10], 0.0, 0.0, 1.0)
    assert candidate.seen == [10] + [1] * 6 + [3, 3]
    assert failures(result, ParityLimits()) == []


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_a_batch_size_that_answers_differently_is_found(batch):
    result = compare(Fixed(TABLE), Fixed(TABLE, breaks_at=batch), numbered(10), ParityLimits())
    assert result.max_abs == 1.0
    assert failures(result, ParityLimits())


@pytest.mark.parametrize(("batch", "agreement"), [(1, 0.4), (3, 0.4), (10, 0.0)])
def test_agreement_and_cosine_are_those_of_the_worst_batch_size(batch, agreement):
    class Turned(Fixed):
        def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
            answers = super().predict(images)["logits"]
            return {"logits": -answers if len(images) == batch else answers}

    found = compare(Fixed(TABLE), Turned(TABLE), numbered(10), ParityLimits())
    assert (found.agreement, found.cosine) == (agreement, pytest.approx(-1))


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_a_batch_size_with_answers_of_another_shape_is_refused_in_words(batch):
    class Wide(Fixed):
        def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
            answers = super().predict(images)["logits"]
            return {"logits": answers[:, :2] if len(images) == batch else answers}

    found = compare(Fixed(TABLE), Wide(TABLE), numbered(10), ParityLimits())
    assert failures(found, ParityLimits()) == [
        "output 'logits' cannot be compared: another shape, or values that are not finite"
    ]


def test_differences_are_absolute_and_relative_to_the_largest_logit():
    expected = np.array([[-20.0, 10.0]])
    given = np.add(expected, [[0.5, -0.25]])
    found = differences({"logits": expected}, {"logits": given}, ParityLimits())
    assert found[:4] == (0.5, 0.025, 1.0, "logits")


def test_a_flip_counts_only_beyond_the_tolerance():
    expected = {"logits": np.array([[1.0, 1.0004], [1.0, 1.5]])}
    given = {"logits": np.array([[1.0001, 1.0], [2.0, 1.5]])}
    assert differences(expected, given, ParityLimits(max_abs=1e-3, max_rel=1e-3))[2] == 0.5
    assert differences(expected, given, ParityLimits(max_abs=1e-5, max_rel=1e-3))[2] == 0.0
    assert differences(expected, given, ParityLimits(max_abs=1e-3, max_rel=1e-5))[2] == 0.0


@pytest.mark.parametrize("given", [np.full((10, 4), np.nan), np.full((10, 4), np.inf), np.zeros((10, 3))])
def test_answers_that_cannot_be_compared_fail_and_stay_plain_json(given):
    result = compare(Fixed(TABLE), Fixed(given), numbered(10), ParityLimits())
    assert "cannot be compared" in failures(result, ParityLimits())[0]
    json.dumps(result.plain(), allow_nan=False)


def test_each_tolerance_is_named_with_its_figure():
    result = ParityResult(50, [1], max_abs=0.5, max_rel=0.1, agreement=0.9)
    texts = failures(result, ParityLimits())
    assert len(texts) == 3
    assert "0.5 (allowed 0.001)" in texts[0]
    assert "90.00% of 50 images (needed 100.00%)" in texts[2]
    assert failures(result, ParityLimits(max_abs=1.0, max_rel=1.0, agreement=0.9)) == []


def test_large_outputs_are_told_which_limit_to_widen():
    [text] = failures(ParityResult(50, [1], max_abs=0.5, max_rel=1e-7, agreement=1.0), ParityLimits())
    assert "only 1e-07 of the largest; for such outputs widen `parity: max_abs`" in text


def test_the_cosine_of_few_images_is_the_worst_and_rows_of_zeros_are_alike():
    expected = {"logits": np.array([[1.0, 0.0], [0.0, 0.0], [3.0, 4.0]])}
    given = {"logits": np.array([[2.0, 0.0], [0.0, 0.0], [4.0, 3.0]])}
    assert differences(expected, given, ParityLimits()).cosine == pytest.approx(24 / 25)
    assert differences(expected, {"logits": expected["logits"] * 0}, ParityLimits()).cosine == 0.0


@pytest.mark.parametrize(("turned", "cosine"), [(0, 1.0), (2, 1.0), (3, 0.0)])
def test_one_image_in_twenty_may_point_elsewhere(turned, cosine):
    expected = np.tile([1.0, 0.0], (40, 1))
    given = expected.copy()
    given[:turned] = [0.0, 1.0]
    assert differences({"logits": expected}, {"logits": given}, ParityLimits()).cosine == cosine


def test_limits_that_are_none_are_not_judged():
    bad = ParityResult(50, [1], max_abs=9.0, max_rel=9.0, agreement=0.0, cosine=-1.0)
    assert failures(bad, ParityLimits(None, None, None, None)) == []
    assert failures(bad, ParityLimits(None, None, None, 0.9)) == [
        "19 images in 20 have a cosine of -1.0000 or more of their outputs (needed 0.9)"
    ]


def test_limits_follow_the_precision_where_they_are_not_given():
    assert Parity().limits("fp32") == ParityLimits(1e-3, 1e-4, 1.0, None)
    assert Parity().limits("int8") == ParityLimits(None, None, 0.9, 0.8)
    assert Parity(max_abs=1e-3, cosine=None).limits("int8") == ParityLimits(1e-3, None, 0.9, None)
    given = Parity.parse({"max_abs": 1e-3, "cosine": None})
    assert Parity.parse(given.plain()) == given


def test_a_share_is_one_of_all_images_though_small_batches_see_few():
    """Two wrong answers among the first images of 64 are 3 %, in whatever batch size they come."""
    shown = np.arange(64, dtype=np.uint8).reshape(64, 1, 1, 1).repeat(3, axis=3)
    right = np.eye(4, dtype=np.float32)[np.arange(64) % 4]
    wrong = right.copy()
    wrong[:2] = right[1:3]
    found = compare(Fixed(right), Fixed(wrong), shown, ParityLimits(None, None, 0.9, None))
    assert found.agreement == 62 / 64
    assert found.batches == [1, 3, 64]
