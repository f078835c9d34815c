"""The length that is told before a measurement begins."""

from __future__ import annotations

import pytest

from edgecr.runners.device import Protocol
from edgecr.runners.expected_length import expected_s, in_words

BASE = {"launches": 5, "rounds": 30, "round_s": 1.0, "throughput": {"seconds": 3.0, "streams": [1, 2]}}


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 5 * (60 + 2 * 1.5) + 2 * 2 * 3 + 30),
        ({"max_s": 20.0}, 5 * (20 + 3) + 12 + 30),
        ({"max_s": 2.0}, 5 * (14 + 3) + 12 + 30),  # seven rounds are done whatever the limit
        ({"throughput": None}, 5 * 63 + 30),
    ],
)
def test_launches_warm_up_throughput_and_idle_power_add_up(changes, seconds: float) -> None:
    assert expected_s(Protocol.parse(BASE | changes), 2, 30.0) == pytest.approx(seconds)


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (45, "45 s"), (357, "6 minutes"), (9000, "2.5 hours")])
def test_a_length_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
