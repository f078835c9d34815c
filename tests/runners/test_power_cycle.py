"""Boards that hang are switched off and on once; what power does not mend is told at once."""

from __future__ import annotations

import contextvars
import sys
import threading
import time

import pytest
from pydantic import ValidationError

from edgecr.core.errors import DeviceFailed, DeviceUnreachable
from edgecr.core.progress import Monitor
from edgecr.runners.base import MeasurePlan
from edgecr.runners.device import PowerCycle
from edgecr.runners.power_cycle import started_again
from edgecr.runners.stopping import stop
from tests.runners.loopback import Board, free_port


def cycle(code: str, **changes) -> PowerCycle:
    return PowerCycle.parse({"command": [sys.executable, "-c", code], "wait_s": 5.0} | changes)


def silent(failures: int):
    """Starts that find nobody so many times."""
    left = [DeviceUnreachable("Board 'x' cannot be reached.")] * failures

    def start() -> str:
        if left:
            raise left.pop()
        return "started"

    return start


def test_a_board_that_answers_is_left_alone(tmp_path) -> None:
    code = f"open({str(tmp_path / 'cycled')!r}, 'w')"
    assert started_again(silent(0), cycle(code), "x", Monitor()) == "started"
    assert not (tmp_path / "cycled").exists()


def test_one_that_does_not_is_switched_off_and_on_once_and_waited_for(tmp_path) -> None:
    code = f"open({str(tmp_path / 'cycled')!r}, 'a').write('x')"
    assert started_again(silent(3), cycle(code), "x", Monitor(), pause_s=0.01) == "started"
    assert (tmp_path / "cycled").read_text() == "x"


def test_a_board_that_stays_silent_is_told_with_what_was_done() -> None:
    with pytest.raises(DeviceUnreachable, match=r"x was switched off and on, and did not answer within 0.05 s"):
        started_again(silent(1000), cycle("pass", wait_s=0.05), "x", Monitor(), pause_s=0.01)


def test_without_a_command_the_failure_is_the_boards_own() -> None:
    with pytest.raises(DeviceUnreachable, match="cannot be reached"):
        started_again(silent(1), None, "x", Monitor())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["no-such-program-here"], "no-such-program-here is not on this machine; transport.power_cycle of x names it"),
        ([sys.executable, "-c", "import sys; sys.exit('no relay')"], "failed with exit code 1: no relay"),
    ],
)
def test_a_command_that_fails_is_told(command, expected) -> None:
    with pytest.raises(DeviceFailed, match=expected):
        started_again(silent(1), PowerCycle.parse({"command": command}), "x", Monitor())


def test_a_refused_key_is_not_mended_by_power(board: Board, models, tmp_path) -> None:
    code = f"open({str(tmp_path / 'cycled')!r}, 'w')"
    power = {"command": [sys.executable, "-c", code]}
    found = board.runner(key="stranger", power_cycle=power).measure(MeasurePlan.of(models, [1]))
    assert "refused your key" in (found.error or "")
    assert not (tmp_path / "cycled").exists()


def test_a_closed_port_is_a_board_to_switch_off_and_on(board: Board, models, tmp_path) -> None:
    code = f"open({str(tmp_path / 'cycled')!r}, 'w')"
    power = {"command": [sys.executable, "-c", code], "wait_s": 0.01}
    options = ["-p", str(free_port()), *board.runner().transport.ssh_options]
    found = board.runner(ssh_options=options, power_cycle=power).measure(MeasurePlan.of(models, [1]))
    assert "was switched off and on" in (found.error or "")
    assert (tmp_path / "cycled").exists()


def test_a_name_that_nobody_knows_is_no_fault_of_the_board(board: Board, models, tmp_path) -> None:
    code = f"open({str(tmp_path / 'cycled')!r}, 'w')"
    power = {"command": [sys.executable, "-c", code]}
    found = board.runner(host="no-such-board.invalid", power_cycle=power).measure(MeasurePlan.of(models, [1]))
    assert "cannot be reached" in (found.error or "")
    assert not (tmp_path / "cycled").exists()


def test_words_of_another_alphabet_are_no_fault_of_ours() -> None:
    code = "import sys; sys.stdout.buffer.write('Lüfter'.encode('latin-1')); sys.exit(1)"
    with pytest.raises(DeviceFailed, match=r"failed with exit code 1: L.fter"):
        started_again(silent(1), cycle(code), "x", Monitor())


def test_a_program_beside_the_current_folder_is_refused() -> None:
    with pytest.raises(ValidationError, match="give a name, or an absolute path"):
        PowerCycle.parse({"command": ["./pdu.sh"]})


def test_work_that_is_stopped_waits_no_longer_and_begins_nothing() -> None:
    over = threading.Event()
    context = contextvars.copy_context()
    context.run(stop.set, over)
    over.set()
    begun = time.monotonic()
    with pytest.raises(DeviceFailed, match="It was stopped"):
        context.run(started_again, silent(1000), cycle("pass", wait_s=60.0), "x", Monitor())
    assert time.monotonic() - begun < 30
