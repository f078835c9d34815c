from __future__ import annotations

import math
import random

import pytest

from edgecr.runners.measurement import statistics as st


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (10, 1), (50, 3), (80, 4.5), (90, 5), (100, 5)])
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


def series(draw: random.Random, count: int, noise: float = 0.005, ramp: float = 0.0, step: float = 0.0, at: int = 0):
    """Times around 100 with a ramp over all of them, and a step after ``at`` of them."""
    return [100 * (1 + ramp * i / (count - 1)) * (1 + step * (i >= at)) * draw.gauss(1, noise) for i in range(count)]


@pytest.mark.parametrize("count", [20, 30, 90])
def test_drift_finds_a_ramp_and_tells_its_size(count) -> None:
    assert st.drift([series(random.Random(count), count, ramp=0.10)]) == pytest.approx(0.10, abs=0.02)


@pytest.mark.parametrize("at", [8, 15, 22])
def test_drift_finds_a_step_early_or_late_in_a_launch_and_tells_its_size(at) -> None:
    draw = random.Random(at)
    calm = [series(draw, 30) for _ in range(2)]
    found = [st.drift([*calm, series(draw, 30, step=size, at=at)]) for size in (0.06, 0.10, -0.10)]
    assert found == pytest.approx([0.06, 0.10, -0.10], abs=0.015)


@pytest.mark.parametrize("shape", [{"ramp": 0.08}, {"step": 0.06, "at": 7}])
def test_drift_that_every_short_launch_shows_is_found_although_one_alone_would_not_do(shape) -> None:
    draw = random.Random(3)
    launches = [series(draw, 10, **shape) for _ in range(3)]
    assert st.drift(launches) is not None
    assert st.drift(launches[:1]) is None


@pytest.mark.parametrize(("count", "noise"), [(10, 0.01), (30, 0.01), (30, 0.03)])
def test_offsets_between_launches_are_no_drift(count, noise) -> None:
    draw = random.Random(count)
    sessions = [
        [
            [draw_offset * value for value in series(draw, count, noise)]
            for draw_offset in (draw.gauss(1, 0.02) for _ in range(3))
        ]
        for _ in range(300)
    ]
    alarms = sum(st.drift(launches) is not None for launches in sessions)
    assert alarms / len(sessions) <= 0.05


def test_drift_of_a_ramp_is_from_its_first_value_to_its_last() -> None:
    """Relative to the median of the launch, which is 105 here."""
    ramp = [100 + 10 * number / 29 for number in range(30)]
    assert st.drift([ramp]) == pytest.approx(10 / 105, abs=1e-9)
    assert st.drift([ramp, ramp[:25]]) == pytest.approx(10 / 105, abs=2e-3)


@pytest.mark.parametrize(("turns", "told"), [(5, True), (4, False)])
def test_slow_calls_of_five_turns_are_a_percentile(turns, told) -> None:
    """Twenty of two thousand calls are slow: the last percent."""
    slow = [[1.0] * (20 - 20 // turns) + [2.0] * (20 // turns) for _ in range(turns)]
    assert (st.one_moment(99, [slow + [[1.0] * 20] * (100 - turns)]) is None) is told


def test_drift_is_silent_on_noise_small_trends_and_short_series() -> None:
    draw = random.Random(7)
    assert not any(st.drift([[draw.gauss(100, 1) for _ in range(30)]]) for _ in range(100))
    assert st.drift([[100 * (1 + 0.02 * i / 29) for i in range(30)]]) is None
    assert st.drift([[1.0, 2.0, 3.0]]) is None
    assert st.drift([[0.0] * 30, []]) is None
    assert st.drift([]) is None


def test_theil_sen_ignores_outliers() -> None:
    values = [float(i) for i in range(30)]
    values[5] = values[20] = 1e6
    assert st.theil_sen([values]) == pytest.approx(1.0, rel=0.05)


def test_kendall_p_of_a_perfect_trend_and_of_none() -> None:
    assert st.kendall_p([[float(i) for i in range(20)]]) < 1e-6
    assert st.kendall_p([[1.0, 2.0] * 10]) > 0.1


def test_pettitt_by_hand() -> None:
    place, p = st.pettitt([[1.0] * 6 + [2.0] * 4])
    assert place == 6
    assert p == pytest.approx(2 * math.exp(-6 * 24**2 / (10**3 + 10**2)))


def slow_calls(draw: random.Random) -> float:
    """Most calls take much the same, one of twenty is disturbed."""
    return math.exp(draw.gauss(0, 0.01) + (draw.random() < 0.05) * draw.expovariate(1 / 0.2))


def wide_calls(draw: random.Random) -> float:
    """Calls that differ a lot, with no tail."""
    return math.exp(draw.gauss(0, 0.1))


def true_percentile(call, percent: int) -> float:
    draw = random.Random(99)
    return st.percentile([call(draw) for _ in range(200_000)], percent)


@pytest.mark.parametrize(("launches", "calls"), [(3, 334), (5, 200)])
def test_a_percentile_of_few_calls_a_launch_is_not_too_low(launches, calls) -> None:
    """From each launch alone it was 3 % low over 3 launches and 6 % over 5 with these calls."""
    draw, truth = random.Random(5), true_percentile(slow_calls, 99)
    found = [
        st.percentile_of_launches([[slow_calls(draw) for _ in range(calls)] for _ in range(launches)], 99, "").value
        for _ in range(60)
    ]
    assert sum(found) / 60 == pytest.approx(truth, rel=0.015)


def test_offsets_between_launches_are_no_tail() -> None:
    draw = random.Random(6)
    launches = [[offset * draw.gauss(1, 0.001) for _ in range(400)] for offset in (0.9, 1.0, 1.1)]
    assert st.percentile_of_launches(launches, 99, "").value == pytest.approx(0.997, abs=0.003)


@pytest.mark.parametrize("call", [slow_calls, wide_calls])
@pytest.mark.parametrize(
    ("percent", "launches", "calls"), [(50, 3, 7), (50, 5, 20), (90, 3, 34), (90, 5, 20), (99, 3, 334)]
)
@pytest.mark.parametrize("offset", [0.0, 0.02])
def test_the_interval_of_a_percentile_covers_the_truth(call, percent, launches, calls, offset) -> None:
    draw, truth, trials, covered = random.Random(percent), true_percentile(call, percent), 400, 0
    for _ in range(trials):
        shifts = [math.exp(draw.gauss(0, offset)) for _ in range(launches)]
        session = [[shift * call(draw) for _ in range(calls)] for shift in shifts]
        found = st.percentile_of_launches(session, percent, "ms")
        covered += found.low <= truth <= found.high
    assert covered / trials >= 0.93


@pytest.mark.parametrize("launches", [3, 5, 10])
@pytest.mark.parametrize(("offset", "noise"), [(0.005, 0.01), (0.02, 0.01), (0.0, 0.05)])
def test_the_paired_interval_covers_one_for_a_model_against_itself(launches, offset, noise) -> None:
    draw, trials, covered = random.Random(0), 800, 0
    for _ in range(trials):
        shifts = [draw.gauss(0, offset) for _ in range(launches)]
        pairs = [[(1.0, math.exp(shift + draw.gauss(0, noise))) for _ in range(10)] for shift in shifts]
        ratio = st.paired_ratio(pairs)
        covered += ratio.low <= 1 <= ratio.high
    assert covered / trials >= 0.93


@pytest.mark.parametrize("launches", [3, 5, 10])
@pytest.mark.parametrize("spread", [0.005, 0.3])
def test_the_interval_over_launches_covers_the_typical_launch(launches, spread) -> None:
    """So it is for processor time (spread 0.5 %) and for the times of loading and of the first call (30 %)."""
    draw, trials = random.Random(1), 2000
    sessions = [[math.exp(draw.gauss(0, spread)) for _ in range(launches)] for _ in range(trials)]
    found = [st.over_launches(values, "ms", 1) for values in sessions]
    assert sum(one.low <= 1 <= one.high for one in found) / trials >= 0.93


def test_the_course_of_hours_is_looked_at_in_parts() -> None:
    long = [1.0 + 0.1 * number / 30_000 for number in range(30_000)]
    assert len(st.shortened(long)) == 300
    assert st.shortened(long) == sorted(st.shortened(long))
    assert st.drift([long]) == pytest.approx(0.1, rel=0.1)
    assert st.shortened([3.0, 1.0]) == [3.0, 1.0]
