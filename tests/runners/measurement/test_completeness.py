import pytest

from edgecr.report.latency_rows import latency_rows
from edgecr.runners.measurement.completeness import shortfall
from tests.runners.measurement.test_summary import measurement


def protocol(one, **changes):
    return one.model_copy(
        update={"device": one.device.model_copy(update={"protocol": one.device.protocol.model_copy(update=changes)})}
    )


def turned(one, launch, rounds):
    """The same measurement, with other rounds in one launch."""
    launches = list(one.launches)
    launches[launch] = launches[launch].model_copy(update={"rounds": tuple(rounds)})
    return one.model_copy(update={"launches": tuple(launches)})


@pytest.fixture
def whole():
    return protocol(measurement(launches=3, rounds=10), launches=3, rounds=10, least_rounds=7, max_s=1.0)


def test_a_whole_measurement_lacks_nothing(whole):
    assert shortfall(whole) == ""
    assert [row.partial for row in latency_rows(whole)] == [""]


@pytest.mark.parametrize("left", [0, 1, 2])
def test_launches_are_missing(whole, left):
    short = whole.model_copy(update={"launches": whole.launches[:left]})
    assert f"{left} of 3 launches" in shortfall(short)
    assert all("of 3 launches" in row.partial for row in latency_rows(short))


def test_rounds_are_short(whole):
    short = turned(whole, 1, whole.launches[1].rounds[:4])
    assert shortfall(short) == "2 of 10 rounds in 1 of 3 launches"


def test_an_arm_had_fewer_turns_than_the_other(whole):
    short = turned(whole, 0, whole.launches[0].rounds[:-1])
    assert shortfall(short) == "9 of 10 rounds in 1 of 3 launches"


def test_one_round_told_over_and_over_is_one_round(whole):
    short = turned(whole, 0, whole.launches[0].rounds[:2] * 10)
    assert shortfall(short) == "1 of 10 rounds in 1 of 3 launches"


def test_only_rounds_that_all_arms_share_are_whole(whole):
    moved = [one.model_copy(update={"number": one.number + one.arm}) for one in whole.launches[0].rounds]
    assert shortfall(turned(whole, 0, moved)) == "9 of 10 rounds in 1 of 3 launches"


def test_an_error_is_enough(whole):
    assert shortfall(whole.model_copy(update={"error": "The board went away."})) == "The board went away"


@pytest.mark.parametrize(
    ("turns", "ended", "lacking"),
    [
        (16, "time", False),  # the protocol stops early when its time is used up
        (14, "time", False),
        (16, "rounds", True),
        (16, None, True),  # broken off
        (20, None, False),  # an older agent did not tell
        (15, "time", True),  # but never in the middle of a round
        (12, "time", True),  # nor before the least number of rounds
    ],
)
def test_a_launch_may_end_early_only_by_the_clock(whole, turns, ended, lacking):
    launches = [one.model_copy(update={"rounds": one.rounds[:turns], "ended": ended}) for one in whole.launches]
    assert bool(shortfall(whole.model_copy(update={"launches": tuple(launches)}))) is lacking
