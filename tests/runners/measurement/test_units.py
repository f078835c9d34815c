"""Units of one kind: a claim needs all of them, and what one of them lacks the whole lacks."""

from __future__ import annotations

import pytest

from edgecr.report.latency_rows import latency_rows
from edgecr.runners.measurement.completeness import shortfall
from edgecr.runners.measurement.units import disagreements, told_by_units
from tests.runners.measurement.test_summary import measurement


def of_units(*times, **extra):
    """One measurement a unit, the first of which stands for all."""
    first, *others = (measurement(pair, unit=f"orin-{number}", **extra) for number, pair in enumerate(times, start=1))
    return first.model_copy(update={"others": tuple(others)})


def test_units_that_are_as_fast_relative_to_their_own_baseline_agree() -> None:
    whole = of_units((10.0, 5.0), (12.0, 6.0), (9.0, 4.6))
    assert disagreements(whole) == []
    assert told_by_units(whole)[0] == "The figures are those of unit orin-1."
    assert told_by_units(whole)[1].startswith("Unit orin-2 has candidate / baseline at batch 1: 0.500 [")
    assert len(told_by_units(whole)) == 3


def test_units_that_differ_leave_the_claim_incomplete() -> None:
    whole = of_units((10.0, 5.0), (10.0, 7.0))
    (told,) = disagreements(whole)
    assert told.startswith("units disagree about the time of candidate / baseline at batch 1: orin-1 0.500 [")
    assert "orin-2 0.700 [" in told
    (row,) = latency_rows(whole)
    assert row.partial == told


def test_one_unit_that_failed_leaves_the_whole_incomplete() -> None:
    whole = of_units((10.0, 5.0), (10.0, 5.0))
    failed = whole.others[0].model_copy(update={"launches": (), "error": "Connection lost."})
    whole = whole.model_copy(update={"others": (failed,)})
    assert "unit orin-2: Connection lost; 0 of 2 launches" in shortfall(whole)
    assert latency_rows(whole)[0].arms["candidate"].p50 is not None, "what the other one measured is shown"


def test_a_board_alone_says_nothing_of_units() -> None:
    assert (disagreements(measurement()), told_by_units(measurement())) == ([], [])
    assert shortfall(of_units((10.0, 5.0))) == shortfall(measurement())


def test_a_measurement_of_units_is_read_again(tmp_path) -> None:
    whole = of_units((10.0, 5.0), (12.0, 6.0))
    whole.save(tmp_path / "m.json")
    assert type(whole).load(tmp_path / "m.json") == whole


@pytest.mark.parametrize("near", [0.51, 0.49])
def test_ratios_within_three_percent_say_the_same(near: float) -> None:
    assert disagreements(of_units((10.0, 5.0), (10.0, 10 * near))) == []


def test_every_pair_of_units_must_agree_whatever_their_order() -> None:
    assert disagreements(of_units((10.0, 5.0), (10.0, 4.86), (10.0, 5.14)))
    assert disagreements(of_units((10.0, 4.86), (10.0, 5.0), (10.0, 5.14)))


def test_units_of_another_release_or_mode_are_not_alike() -> None:
    whole = of_units((10.0, 5.0), (10.0, 5.0), facts={"model": "Orin", "power_mode": {"name": "MAXN"}})
    assert disagreements(whole) == []
    slow = whole.others[0].model_copy(
        update={"facts": {"model": "Orin", "power_mode": {"name": "15W"}}, "warnings": ("It throttled.",)}
    )
    whole = whole.model_copy(update={"others": (slow,)})
    assert disagreements(whole) == ["units are not alike: orin-1 has Orin; MAXN, orin-2 has Orin; 15W"]
    assert "Unit orin-2: It throttled." in told_by_units(whole)
