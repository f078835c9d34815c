"""The lock of a board: one has it, others wait and are told for whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def never() -> bool:
    return False


def take(lock, who="alice", wait_s=0.0, shared=False, told=None):
    lock.take(
        {"who": who, "what": "measuring a.onnx"}, wait_s, shared, (told if told is not None else []).append, never
    )


@pytest.fixture
def board(agent, tmp_path: Path):
    """Makes locks of one board; each stands for an agent of its own."""
    made = []

    def lock():
        made.append(agent("board_lock").BoardLock(str(tmp_path / "lock")))
        return made[-1]

    yield lock
    for one in made:
        if one.held is not None:
            os.close(one.held)


def test_the_second_session_is_refused_and_hears_who_measures(agent, board) -> None:
    first, second = board(), board()
    take(first)
    with pytest.raises(
        agent("board_lock").Busy, match=r"in use by alice \(measuring a.onnx, for 0 s now\); waited 0 s"
    ):
        take(second, "bob")
    os.close(first.held)
    first.held = None
    take(second, "bob")
    assert second.held is not None


def test_who_waits_is_told_once_and_gets_the_board_when_it_is_free(agent, board, monkeypatch) -> None:
    first, second, told = board(), board(), []
    take(first)

    def leave(_seconds: float) -> None:
        os.close(first.held)
        first.held = None

    monkeypatch.setattr(agent("board_lock").time, "sleep", leave)
    take(second, "bob", wait_s=60, told=told)
    assert [one["who"] for one in told] == ["alice"]
    assert second.held is not None


def test_sessions_that_only_answer_share_the_board_and_keep_a_measurement_out(agent, board) -> None:
    first, second, measuring = board(), board(), board()
    take(first, shared=True)
    take(second, "bob", shared=True)
    with pytest.raises(agent("board_lock").Busy):
        take(measuring, "carol")
    for one in (first, second):
        os.close(one.held)
        one.held = None
    take(measuring, "carol")
    with pytest.raises(agent("board_lock").Busy, match="in use by carol"):
        take(board(), shared=True)


def test_a_stopped_request_waits_no_longer(agent, board) -> None:
    take(board())
    with pytest.raises(agent("board_lock").Busy):
        board().take({"who": "bob"}, 3600.0, False, lambda holder: None, lambda: True)


def test_all_users_can_take_the_lock_whatever_the_mask(board, tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        take(board())
    finally:
        os.umask(old)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_nothing_but_a_file_is_a_lock(agent, board, tmp_path: Path, kind: str) -> None:
    place, target = tmp_path / "lock", tmp_path / "target"
    {"link": lambda: place.symlink_to(target), "folder": place.mkdir, "pipe": lambda: os.mkfifo(place)}[kind]()
    with pytest.raises(agent("board_lock").Busy, match="remove it"):
        take(board())
    assert not target.exists()


def test_what_others_wrote_into_the_lock_is_only_text(agent, board, tmp_path: Path) -> None:
    take(board())
    begin = agent("board_lock").BEGIN.decode()
    (tmp_path / "lock").write_text(begin + "[" * 1000)
    with pytest.raises(agent("board_lock").Busy, match=r"in use by somebody \(measuring\)"):
        take(board(), "bob")


@pytest.mark.parametrize("since", ["NaN", "-1e400", "1" * 400, '"x"'])
def test_a_time_that_is_none_is_left_out(agent, board, tmp_path: Path, since: str) -> None:
    take(board())
    (tmp_path / "lock").write_text(agent("board_lock").BEGIN.decode() + f'{{"who": "eve", "since": {since}}}')
    with pytest.raises(agent("board_lock").Busy, match=r"in use by eve \(measuring\)"):
        take(board(), "bob")


def test_a_file_that_is_something_else_keeps_its_content(agent, board, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("precious")
    with pytest.raises(agent("board_lock").Busy, match="something else than its lock"):
        take(board())
    assert (tmp_path / "lock").read_text() == "precious"
    (tmp_path / "lock").write_text("")
    os.link(tmp_path / "lock", tmp_path / "other name")
    with pytest.raises(agent("board_lock").Busy, match="something else than its lock"):
        take(board())


def test_a_long_wait_is_no_silence(agent, board, monkeypatch) -> None:
    module, told = agent("board_lock"), []
    take(board())
    moments = iter([0.0, 0.0, 0.0, 0.0, 30.0, 30.0, 61.0, 61.0, 61.0, 200.0, 200.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    with pytest.raises(module.Busy):
        take(board(), "bob", wait_s=100.0, told=told)
    assert len(told) == 2
