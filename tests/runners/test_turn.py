"""Two clients at one board: the second waits, says for whom, and gives up with a message."""

from __future__ import annotations

import threading
import time

import pytest

from edgecr.core.errors import DeviceFailed
from edgecr.core.progress import Monitor
from tests.runners.loopback import Board


class Listening(Monitor):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.spoke = threading.Event()

    def say(self, text: str) -> None:
        self.said.append(text)
        self.spoke.set()


def test_the_second_client_waits_until_the_first_is_done(board: Board) -> None:
    told = Listening()
    first = board.runner().connect("measuring a.onnx")
    threading.Thread(target=lambda: (told.spoke.wait(30), time.sleep(1.2), first.close())).start()
    with board.runner().connect("measuring b.onnx", told) as second:
        assert second.ask("probe")["facts"]
    assert len(told.said) == 1
    assert told.said[0].startswith("Waiting for quick: ")
    assert told.said[0].endswith(" is using it (measuring a.onnx).")


def test_a_client_without_patience_is_told_who_measures(board: Board) -> None:
    expected = r"The board is in use by .*@.* \(measuring a.onnx, for \d+ s now\)"
    with board.runner().connect("measuring a.onnx"), pytest.raises(DeviceFailed, match=expected):
        board.runner(lock_wait_s=0).connect()
    board.runner(lock_wait_s=0).connect().close()


def test_sessions_that_only_answer_run_beside_one_another(board: Board) -> None:
    with board.runner().connect("answering", shared=True), board.runner(lock_wait_s=0).connect(shared=True) as second:
        assert second.ask("probe")["facts"]
