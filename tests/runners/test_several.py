"""Several boards at once, and several units of one kind."""

from __future__ import annotations

import threading

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import DeviceFailed, FileProblem, RequestError, SomeRaised
from edgecr.core.progress import Monitor
from edgecr.runners.agent.runner import AgentRunner
from edgecr.runners.base import Measurement, MeasurePlan, UnitsRunner, runner_for
from edgecr.runners.device import Device
from edgecr.runners.several import at_once, without_exceptions
from tests.runners.loopback import Board
from tests.runners.tiny_device import quick_device


class Listening(Monitor):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_jobs_run_at_once_and_speak_under_their_names() -> None:
    told, meeting = Listening(), threading.Barrier(2, timeout=30)

    def job(monitor: Monitor) -> int:
        meeting.wait()  # would break if one had to wait for the other
        monitor.say("measuring")
        return 7

    assert at_once({"a": job, "b": job}, told) == {"a": 7, "b": 7}
    assert sorted(told.said) == ["a: measuring", "b: measuring"]


def test_one_job_alone_speaks_as_itself() -> None:
    told = Listening()
    assert at_once({"a": lambda monitor: monitor.say("measuring")}, told) == {"a": None}
    assert told.said == ["measuring"]


def test_a_job_that_raises_loses_nothing_of_the_others() -> None:
    def broken(monitor: Monitor) -> int:
        raise ValueError("odd")

    results = at_once({"a": broken, "b": lambda monitor: 7}, Monitor())
    assert results["b"] == 7
    with pytest.raises(SomeRaised, match="a: ValueError: odd") as told:
        without_exceptions(results)
    assert (told.value.found, told.value.exit_code) == ({"b": 7}, 1)
    with pytest.raises(ValueError, match="odd"):
        without_exceptions(at_once({"a": broken}, Monitor()))


def test_a_device_that_raises_hides_no_other_on_the_command_line(models, quick, tmp_path, monkeypatch) -> None:
    measure = AgentRunner.measure

    def measured(self: AgentRunner, plan: MeasurePlan, monitor: Monitor | None = None) -> Measurement:
        if self.device.name == "first":
            raise FileProblem("m.onnx was changed while it waited to be sent.")
        return measure(self, plan, monitor)

    monkeypatch.setattr(AgentRunner, "measure", measured)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "edgecr" / "devices").mkdir(parents=True)
    for name in ("first", "second"):
        text = yaml.safe_dump({**quick.plain(), "name": name})
        (tmp_path / "edgecr" / "devices" / f"{name}.yaml").write_text(text)
    words = ["profile", str(models["baseline"]), "--device", "first,second", "-o", str(tmp_path / "m.json")]
    told = CliRunner().invoke(app, [*words, "--launches", "1", "--rounds", "1"])
    assert isinstance(told.exception, SomeRaised)
    assert str(told.exception) == "first: m.onnx was changed while it waited to be sent."
    assert len(Measurement.load(tmp_path / "m-second.json").launches) == 1
    assert not (tmp_path / "m-first.json").exists()


def test_the_exit_code_of_a_wrong_request_stays() -> None:
    assert SomeRaised({"a": 1}, {"b": RequestError("no"), "c": DeviceFailed("no")}).exit_code == 2


class BrokenUnit:
    def __init__(self, runner, unit: str) -> None:
        self.runner, self.unit = runner, unit

    def measure(self, plan: MeasurePlan, monitor: Monitor) -> Measurement:
        if self.unit == "orin-1":
            raise FileProblem("m.onnx was changed while it waited to be sent.")
        return self.runner.measure(plan, monitor)


def test_a_unit_that_raises_is_a_unit_that_failed(models, quick, monkeypatch) -> None:
    device = quick_device(transport={"kind": "ssh"}, units=["orin-1", "orin-2"])
    monkeypatch.setattr(UnitsRunner, "one", lambda self, unit: BrokenUnit(runner_for(quick), unit))
    found = runner_for(device).measure(MeasurePlan.of(models, [1], launches=1))
    assert (found.unit, found.error) == ("orin-2", None)
    assert [(one.unit, one.error, one.arms) for one in found.others] == [
        ("orin-1", "m.onnx was changed while it waited to be sent.", found.arms)
    ]


def units_of(board: Board, *hosts: str, **changes) -> Device:
    """A device of several units that are all this machine."""
    transport = board.transport() | {"host": None}
    config = board.folder / "units.conf"
    config.write_text((board.folder / "plain-known.conf").read_text().replace("Host board", f"Host {' '.join(hosts)}"))
    transport["ssh_options"] = ["-F", str(config)]
    return quick_device(transport=transport, units=list(hosts), **changes)


def test_each_unit_carries_out_the_whole_plan(board: Board, models) -> None:
    device = units_of(board, "orin-1", "orin-2")
    runner = runner_for(device)
    assert isinstance(runner, UnitsRunner)
    found = runner.measure(MeasurePlan.of(models, [1], launches=1))
    assert (found.error, found.unit, [one.unit for one in found.others]) == (None, "orin-1", ["orin-2"])
    for one in (found, *found.others):
        assert {(turn.arm, turn.number) for turn in one.launches[0].rounds} == {
            (a, n) for a in (0, 1) for n in range(3)
        }
    assert found.device.units == ("orin-1", "orin-2")


def test_a_unit_that_does_not_answer_hides_no_other(board: Board, models) -> None:
    device = units_of(board, "orin-1", "orin-2")
    config = board.folder / "units.conf"
    config.write_text("Host orin-1\n HostName no-such-board.invalid\n" + config.read_text())
    found = runner_for(device).measure(MeasurePlan.of(models, [1], launches=1))
    assert (found.unit, found.error) == ("orin-2", None)
    assert "Board 'orin-1' cannot be reached" in (found.others[0].error or "")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"transport": {"kind": "local"}, "units": ["a"]}, "they need `transport"),
        ({"transport": {"kind": "ssh", "host": "a"}, "units": ["b"]}, "not both"),
        ({"transport": {"kind": "ssh"}, "units": ["b", "b"]}, "named twice"),
        ({"transport": {"kind": "ssh"}, "units": ["-oProxyCommand=x"]}, "match pattern"),
        ({"transport": {"kind": "labgrid"}}, "either place, or tags"),
        ({"transport": {"kind": "labgrid", "place": "a", "tags": {"b": "c"}}}, "either place, or tags"),
        ({"transport": {"kind": "labgrid", "place": "-x"}}, "match pattern"),
    ],
)
def test_declarations_that_say_two_things_are_refused(changes, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        quick_device(**changes)
