from __future__ import annotations

import math
import random

import pytest

from edgecr.runners.measure import statistics as st


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 3), (90, 4.6), (100, 5)])
def test_percentile_interpolates_between_neighbours(percent, expected) -> None:
    assert st.percentile([5, 3, 1, 2, 4], percent) == pytest.approx(expected)


@pytest.mark.parametrize(("percent", "least"), [(50, 20), (90, 100), (99, 1000)])
def test_percentiles_need_samples(percent, least) -> None:
    assert st.lack_of_samples(percent, least) is None
    assert f"p{percent} needs at least {least} samples" in (st.lack_of_samples(percent, least - 1) or "")


@pytest.mark.parametrize(  # from the printed tables of Student's t
    ("confidence", "freedom", "expected"),
    [
        (0.95, 1, 12.706),
        (0.95, 2, 4.303),
        (0.95, 4, 2.776),
        (0.99, 3, 5.841),
        (0.9, 9, 1.833),
        (0.95, 1000, 1.962),
    ],
)
def test_t_quantile(confidence, freedom, expected) -> None:
    assert st.t_quantile(confidence, freedom) == pytest.approx(expected, abs=6e-4)


def test_one_launch_has_a_value_and_no_interval() -> None:
    estimate = st.over_launches([5.0], "ms", 40)
    assert (estimate.value, estimate.low, estimate.high, estimate.samples) == (5.0, None, None, 40)


def test_the_interval_is_over_launches_and_holds_the_value() -> None:
    estimate = st.over_launches([10.0, 10.1, 10.2], "ms", 300)
    half = 4.303 * 0.1 / math.sqrt(3)
    assert estimate.value == 10.1
    assert (estimate.low, estimate.high) == pytest.approx((10.1 - half, 10.1 + half), abs=0.01)


def test_equal_launches_give_a_point() -> None:
    estimate = st.over_launches([2.0, 2.0, 2.0], "ms", 3)
    assert (estimate.low, estimate.value, estimate.high) == pytest.approx((2.0, 2.0, 2.0))


def test_two_launches_have_no_interval() -> None:
    estimate = st.over_launches([2.0, 3.0], "ms", 2)
    assert (estimate.low, estimate.high) == (None, None)
    assert estimate.note == st.TOO_FEW


def test_a_machine_that_slows_down_does_not_move_the_paired_ratio() -> None:
    slow = [1 + 0.3 * number / 30 for number in range(30)]
    launches = [[(10 * factor, 7 * factor) for factor in slow] for _ in range(3)]
    ratio = st.paired_ratio(launches)
    assert ratio.value == pytest.approx(0.7)
    assert (ratio.low, ratio.high) == pytest.approx((0.7, 0.7))


def test_the_paired_interval_covers_one_for_a_model_against_itself() -> None:
    draw = random.Random(0)
    covered = 0
    for _ in range(300):
        offsets = [draw.gauss(0, 0.005) for _ in range(3)]
        launches = [[(1.0, math.exp(offset + draw.gauss(0, 0.01))) for _ in range(10)] for offset in offsets]
        ratio = st.paired_ratio(launches)
        covered += ratio.low <= 1 <= ratio.high
    assert 0.91 <= covered / 300 <= 0.98


def test_swapping_the_arms_inverts_the_ratio() -> None:
    draw = random.Random(1)
    launches = [[(draw.uniform(1, 2), draw.uniform(1, 2)) for _ in range(5)] for _ in range(3)]
    there, back = (
        st.paired_ratio(launches),
        st.paired_ratio([[(b, a) for a, b in pairs] for pairs in launches]),
    )
    assert there.value * back.value == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)


def test_share_of_waiting() -> None:
    assert st.wait_share([(90, 10), (100, 0), (None, 5)]) == pytest.approx(0.05)
    assert st.wait_share([(None, None)]) is None
    assert st.wait_share([]) is None


@pytest.mark.parametrize("count", [20, 30, 90])
def test_drift_finds_a_ramp_and_tells_its_size(count) -> None:
    draw = random.Random(count)
    ramp = [100 * (1 + 0.10 * i / (count - 1)) * draw.gauss(1, 0.005) for i in range(count)]
    assert st.drift(ramp) == pytest.approx(0.10, abs=0.02)


def test_drift_is_silent_on_noise_small_trends_and_short_series() -> None:
    draw = random.Random(7)
    assert not any(st.drift([draw.gauss(100, 1) for _ in range(30)]) for _ in range(100))
    assert st.drift([100 * (1 + 0.02 * i / 29) for i in range(30)]) is None
    assert st.drift([1.0, 2.0, 3.0]) is None


def test_theil_sen_ignores_outliers() -> None:
    series = [float(i) for i in range(30)]
    series[5] = series[20] = 1e6
    assert st.theil_sen(series) == pytest.approx(1.0, rel=0.05)


def test_kendall_p_of_a_perfect_trend_and_of_none() -> None:
    assert st.kendall_p([float(i) for i in range(20)]) < 1e-6
    assert st.kendall_p([1.0, 2.0] * 10) > 0.1
