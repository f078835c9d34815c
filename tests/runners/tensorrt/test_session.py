"""A turn's window is when its inferences ran, not when the program that timed them lived."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgecr.runners.measurement.energy import PowerTrace, spent
from edgecr.runners.measurement.readings import PowerReadings, Watched
from edgecr.runners.measurement.record import Program
from edgecr.runners.tensorrt.board import TrtBoard, TrtRun
from edgecr.runners.tensorrt.commands import TrtVersion
from edgecr.runners.tensorrt.output import read_log
from edgecr.runners.tensorrt.session import turn_of

MS = 1_000_000
LOG = "[x] [I] Timing trace has 4 queries over 0.5 s\n[x] [I] Total Host Walltime: 0.6 s\n"


def run(log: str = LOG, told_ns: int | None = 2_000 * MS) -> TrtRun:
    return TrtRun(read_log(log), told_ns, {}, Program(elapsed_ns=3_000 * MS, run_ns=1))


def test_it_ends_when_trtexec_tells_and_lasts_as_long_as_it_says() -> None:
    turn = turn_of(1, 7, run(), [100 * MS] * 4)
    assert (turn.arm, turn.number, turn.start_ns, turn.window_ns) == (1, 7, 1_500 * MS, 500 * MS)
    assert turn.elapsed_ns == 400 * MS  # the processor waited for the host in between


def test_an_older_text_tells_the_time_on_the_host_only_and_none_at_all_is_the_sum_of_the_times() -> None:
    assert turn_of(0, 0, run(LOG.splitlines()[1]), [MS]).window_ns == 600 * MS
    assert turn_of(0, 0, run(""), [MS, MS]).window_ns == 2 * MS
    assert turn_of(0, 0, run(told_ns=None), [MS]).start_ns == 0


def test_energy_is_that_of_the_window() -> None:
    at = tuple(range(0, 3_000 * MS, 10 * MS))
    watt = [2_000.0 if 1_500 * MS <= moment <= 2_000 * MS else 500.0 for moment in at]
    watched = Watched(power=(PowerReadings(unit="mw", at_ns=at, rails={"VDD_IN": tuple(watt)}),))
    found = spent(PowerTrace(watched, ["VDD_IN"]), [turn_of(0, 0, run(), [100 * MS] * 4)], 1)
    assert found.seconds == 0.5
    assert found.per_call == pytest.approx(250, rel=0.02)


def test_an_engine_is_kept_under_all_that_it_depends_on() -> None:
    board = TrtBoard(TrtVersion(10, 3, 0), "Orin", "8.7", "Jetson Orin Nano", "R36", "MAXN")
    keys = {board.key(model="a", flags=["--fp16"])}
    for change in (
        {"version": TrtVersion(10, 7, 0)},
        {"gpu": "other"},
        {"capability": "7.2"},
        {"model": "Jetson AGX Orin"},
        {"l4t": "R35"},
    ):
        keys.add(replace(board, **change).key(model="a", flags=["--fp16"]))
    keys |= {board.key(model="b", flags=["--fp16"]), board.key(model="a", flags=["--int8"])}
    assert len(keys) == 8
    assert board.key(model="a", flags=["--fp16"]) in keys
