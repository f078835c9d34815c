"""The manner of a measurement: presets of its length, streams, and the key that they are part of."""

from __future__ import annotations

import re

import pytest

from edgecr.core.errors import RequestError
from edgecr.runners.base import MeasurePlan
from edgecr.runners.device import Protocol
from edgecr.runners.manner import Length, Manner
from tests.runners.tiny_device import quick_device


def test_the_usual_manner_changes_nothing() -> None:
    protocol = quick_device().protocol
    assert Manner().applied(protocol) == protocol
    assert (Manner().usual, Manner().plain()) == (True, {})


@pytest.mark.parametrize(
    ("length", "launches", "seconds"),
    [
        (Length("quick"), 3, 4.0),
        (Length("standard"), 5, 120.0),
        (Length("sustained", 10), 1, 600.0),
        (Length("mlperf"), 1, 600.0),
    ],
)
def test_a_preset_replaces_the_extent_and_nothing_else(length: Length, launches: int, seconds: float) -> None:
    protocol = Protocol(gate_wait=0.5)
    found = Manner(length=length).applied(protocol)
    assert (found.launches, found.max_s, found.gate_wait) == (launches, seconds, 0.5)
    assert found.warmup == protocol.warmup


def test_the_clock_ends_a_long_measurement_not_its_rounds() -> None:
    found = Length("sustained", 24 * 60).applied(Protocol())
    assert found.rounds * found.round_s >= found.max_s


def test_counts_that_are_given_still_override_a_preset() -> None:
    plan = MeasurePlan((), launches=2, manner=Manner(length=Length("quick"), streams=(1, 4)))
    found = plan.protocol(quick_device())
    assert (found.launches, found.rounds) == (2, 10)
    assert found.throughput.streams == (1, 4)


@pytest.mark.parametrize(("name", "minutes"), [("quick", 3), ("sustained", None), ("sustained", 1), ("sustained", 1e5)])
def test_minutes_belong_to_a_sustained_measurement_and_are_two_at_least(name, minutes) -> None:
    with pytest.raises(RequestError, match="sustained"):
        Length(name, minutes)


def test_one_minute_is_no_plural() -> None:
    with pytest.raises(RequestError, match=re.escape("(got 1 minute)")):
        Length("sustained", 1)


def test_every_wish_is_part_of_the_key() -> None:
    wishes = [Manner(force=True), Manner(layers=True), Manner(streams=(2,)), Manner(length=Length("sustained", 3))]
    keys = [str(one.plain()) for one in wishes]
    assert len(set(keys)) == len(keys)
    assert re.search("minutes.*3", keys[-1])
