"""The wait for a cool board."""

from __future__ import annotations

from typing import ClassVar

from edgecr.core.progress import Monitor
from edgecr.runners.cooling import cooled
from edgecr.runners.device import CoolDown


class Board:
    """Tells temperatures in turn, and the last one from then on."""

    def __init__(self, *readings: dict[str, float]) -> None:
        self.readings, self.asked = list(readings), 0

    def facts(self):
        self.asked += 1
        return {"temperatures": self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]}


def wait(board: Board, **limits) -> list[str]:
    return cooled(CoolDown.parse({"below_c": 50} | limits), "orin", board.facts, Monitor(), pause_s=0)


def test_nothing_is_waited_for_unless_it_is_asked() -> None:
    board = Board({"cpu": 90.0})
    assert cooled(None, "orin", board.facts, Monitor()) == []
    assert board.asked == 0


def test_every_zone_must_be_cooler() -> None:
    board = Board({"cpu": 45.0, "gpu": 61.0}, {"cpu": 50.0, "gpu": 49.0}, {"cpu": 49.9, "gpu": 49.0})
    assert wait(board) == []
    assert board.readings == [{"cpu": 49.9, "gpu": 49.0}]


def test_the_wait_is_told_once_with_the_hottest_zone() -> None:
    class Told(Monitor):
        lines: ClassVar[list[str]] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

    board = Board({"cpu": 55.0, "gpu": 61.0}, {"cpu": 52.0, "gpu": 49.0}, {"cpu": 49.0, "gpu": 49.0})
    assert cooled(CoolDown.parse({"below_c": 50}), "orin", board.facts, Told(), pause_s=0) == []
    assert Told.lines == ["Waiting for orin to cool below 50 C; gpu is at 61 C."]


def test_a_board_that_stays_hot_is_measured_with_a_doubt() -> None:
    (doubt,) = wait(Board({"cpu": 45.0, "tj": 62.4}), max_s=0.01)
    assert doubt.startswith("orin was still at 62 C (tj) after 0.01 s of cooling")


def test_a_board_without_thermometers_says_so() -> None:
    assert "tells no temperature" in wait(Board({}))[0]
