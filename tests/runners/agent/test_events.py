"""Whatever a board sends, the host ends with one clear error that may be printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecr.core.errors import DeviceFailed
from edgecr.runners import fitness
from edgecr.runners.agent import protocol
from edgecr.runners.agent.events import UNREADABLE, cleaned, parse_line, shown
from edgecr.runners.agent.runner import AgentRunner
from edgecr.runners.agent.session import changed_runtimes, launch_of
from edgecr.runners.base import MeasurePlan
from tests.runners.fake_agent import FACTS, HELLO, fake
from tests.runners.measurement.test_summary import measurement
from tests.runners.tiny_device import quick_device, write_onnx

DEEP = '{"event": ' + "[" * 100_000 + "]" * 100_000 + "}"
NESTED = json.loads('{"a": ' * 900 + "1" + "}" * 900)


@pytest.mark.parametrize(
    ("line", "noise", "event"),
    [
        (b'\x1e{"event": "x"}\n', "", {"event": "x"}),
        (b'hm\x1e{"event": "x"}\n', "hm", {"event": "x"}),
        (b"plain\n", "plain", None),
        (b"\x1enot json\n", "", {"event": UNREADABLE, "text": "not json\n"}),
        (b"\x1e[1]\n", "", {"event": UNREADABLE, "text": "[1]\n"}),
        (b'\x1e{"event": 3}\n', "", {"event": UNREADABLE, "text": '{"event": 3}\n'}),
        (b'\x1e{"event": "x", "ns": NaN}\n', "", {"event": UNREADABLE, "text": '{"event": "x", "ns": NaN}\n'}),
        (b"\xff\xfe\n", "\ufffd\ufffd", None),
        (b"\x1b[2Jhello\x07\n", "\\u001b[2Jhello\\u0007", None),
    ],
)
def test_lines(line: bytes, noise: str, event) -> None:
    assert parse_line(line) == (noise, event)


def test_text_of_a_board_is_cut_and_escaped() -> None:
    assert shown("a\x1b[31m\u202eb\ud800\nc") == "a\\u001b[31m\\u202eb\\ud800\nc"
    assert len(shown("x" * 10**6)) < 3000
    assert cleaned({"a\x07": ["\x1b", 1, None, {"b": "\x9b"}]}) == {"a\\u0007": ["\\u001b", 1, None, {"b": "\\u009b"}]}


def printable(error: BaseException) -> bool:
    return all(one.isprintable() or one == "\n" for one in str(error))


@pytest.mark.parametrize(
    "hello",
    [
        {"event": "hello"},
        {**HELLO, "protocol": 1},
        {**HELLO, "pid": "\x1b[2J"},
        {"event": "\x1b]0;title\x07"},
        "nonsense \x1b[2J",
        DEEP,
        {"event": "error", "message": "x"},
    ],
)
def test_a_greeting_that_is_none_is_refused(tmp_path: Path, hello) -> None:
    with pytest.raises(DeviceFailed) as told:
        fake(tmp_path / "log", {"hello": [hello]})
    assert printable(told.value)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"event": "error"}, "did not say why"),
        ({"event": "error", "message": {"a": 1}}, "did not say why"),
        ({"event": "error", "message": "\x1b[2Jno \x07coffee"}, r"\\u001b\[2Jno \\u0007coffee"),
        ({"event": "done"}, "'done' event that cannot be read: facts"),
        ({"event": "done", "facts": None}, "facts"),
        ({"event": "done", "facts": {**FACTS, "usable_cores": "many"}}, "facts.usable_cores"),
        ({"event": "done", "facts": {**FACTS, "usable_cores": int("9" * 400)}}, "facts.usable_cores"),
        ({"event": "done", "facts": {**FACTS, "cpufreq": {**FACTS["cpufreq"], "allowed": [10**400]}}}, "allowed.0"),
        ({"event": "done", "facts": {**FACTS, "further": NESTED}}, "nested too deeply"),
        ({"event": "done", "facts": {**FACTS, "temperatures": [1]}}, "facts.temperatures"),
        ({"event": "done", "facts": {**FACTS, "busiest": [{"pid": 1}]}}, "facts.busiest.0"),
        ('{"event": "done", "facts": NaN}', "no event"),
        ('{"event": "done", "facts": {\x1b[2J', r"no event: .*\\u001b"),
        (DEEP, "no event"),
        (HELLO, "'hello' event that cannot be read"),
    ],
)
def test_malformed_answers_are_failures_of_the_device(tmp_path: Path, answer, expected: str) -> None:
    with fake(tmp_path / "log", {"probe": [answer]}) as agent, pytest.raises(DeviceFailed, match=expected) as told:
        fitness.ask(agent)
    assert printable(told.value)


def test_facts_may_be_shown(tmp_path: Path) -> None:
    busy = {"pid": 7, "name": "evil\x1b[2J", "share": 1.0}
    answer = {"event": "done", "facts": {**FACTS, "busiest": [busy], "busy": 64.0, "model": "\x1b]0;x\x07"}}
    with fake(tmp_path / "log", {"probe": [answer]}) as agent:
        facts = fitness.ask(agent)
    assert facts["model"] == "\\u001b]0;x\\u0007"
    assert "evil\\u001b[2J (pid 7" in fitness.before(quick_device(), facts)[0]


ROUND = {
    "event": "round", "arm": 0, "number": 0, "start_ns": 1, "ns": [5], "run_ns": 5, "wait_ns": 0, "switches": 0,
    "steal": 0,
}  # fmt: skip
DONE = {"event": "done", "op": "bench"}
ARM = {
    "event": "arm", "arm": 0, "import_ns": 1, "load_ns": 1, "first_ns": 1, "memory_kb": {"empty": 1},
    "info": {"runtime": "onnxruntime", "version": "1.2"},
}  # fmt: skip
OTHER = {**ARM, "info": {"runtime": "openvino", "version": "9"}}
HUGE = int("9" * 400)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"bench": [{"event": "round"}, DONE]}, "'round' event that cannot be read: arm: Field required"),
        ({"bench": [{**ROUND, "ns": ["\x1b"]}, DONE]}, "'round' event"),
        ({"bench": [{**ROUND, "arm": 99}, DONE]}, "there is no arm 99"),
        ({"bench": [{**ROUND, "ns": []}, DONE]}, "'round' event"),
        ({"bench": [{**ROUND, "\x1b[2J": 1}, DONE]}, "'round' event"),
        ({"bench": [ROUND, {"event": "ended", "reason": "\x1b"}, DONE]}, "'ended' event that cannot be read: reason"),
        ({"bench": [ROUND, {"event": "ended"}, DONE]}, "'ended' event"),
        (
            {"bench": [ARM, ROUND, DONE], "alone": [DONE]},
            "'done' event that cannot be read: no 'arm' event came before",
        ),
        ({"bench": [ROUND, DONE]}, "'round' event that cannot be read: no 'arm' event came before"),
        ({"bench": [ARM, ARM, ROUND, DONE]}, "arm 0 was not to be loaded, or was before"),
        ({"bench": [OTHER, ROUND, DONE]}, "onnxruntime was asked for, 'openvino' is told"),
        ({"bench": [ARM, ROUND, DONE], "alone": [OTHER, DONE]}, "onnxruntime was asked for, 'openvino' is told"),
        ({"bench": [ARM, ROUND, ROUND, DONE]}, "arm 0 had its turn of round 0 before"),
        ({"bench": [{**ARM, "load_ns": HUGE}, ROUND, DONE]}, "'arm' event that cannot be read: load_ns"),
        ({"bench": [{**ARM, "load_ns": -1}, ROUND, DONE]}, "'arm' event that cannot be read: load_ns"),
        ({"bench": [{**ARM, "memory_kb": {"empty": HUGE}}, ROUND, DONE]}, "memory_kb.empty"),
        ({"bench": [ARM, {**ROUND, "number": HUGE}, DONE]}, "'round' event that cannot be read: number"),
        ({"bench": [{**ARM, "info": NESTED}, ROUND, DONE]}, "nested too deeply"),
        ({"put": [{"event": "error", "message": "Only 1 MB free\x07"}]}, r"Only 1 MB free\\u0007"),
        ({"put": ["nonsense"]}, "no event"),
    ],
)
def test_malformed_results_are_an_error_value(tmp_path: Path, answers, expected: str) -> None:
    class Lying(AgentRunner):
        def start(self):
            return fake(tmp_path / "log", {"probe": [{"event": "done", "facts": FACTS}], "alone": [DONE], **answers})

    plan = MeasurePlan.of({"a": write_onnx(tmp_path / "a.onnx")}, [1], launches=1, rounds=1)
    result = Lying(quick_device()).measure(plan)
    assert expected.replace("\\\\", "\\") in (result.error or "")
    result.save(tmp_path / "m.json")


LOST = [{"event": "fault", "message": "the board is gone."}]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"bench": [ARM, *LOST]}, "The agent ended: the board is gone."),
        (
            {"bench": [ARM, ROUND, *LOST]},
            "The agent ended: the board is gone. That was in launch 1 of 1, after 1 of 4 rounds. "
            "What was measured until then is kept as partial.",
        ),
        (
            {"bench": [ARM, ROUND, DONE], "alone": LOST},
            "The agent ended: the board is gone. What was measured until then is kept as partial.",
        ),
    ],
)
def test_a_connection_that_is_lost_says_what_is_kept(tmp_path: Path, answers, expected: str) -> None:
    class Lost(AgentRunner):
        def start(self):
            told = {"probe": [{"event": "done", "facts": FACTS}], **answers}
            return fake(tmp_path / "log", told)

    plan = MeasurePlan.of({"a": write_onnx(tmp_path / "a.onnx")}, [1], launches=1, rounds=4)
    result = Lost(quick_device()).measure(plan)
    assert result.error == expected
    assert len(result.launches) == ("kept as partial" in expected)


def test_a_board_that_sends_without_end_is_stopped(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(protocol, "MOST_ANSWER", 100 * protocol.EVENT_COST)
    line = {"event": "line", "text": ""}
    with fake(tmp_path / "log", {"tool": [line] * 60 + [{**DONE, "op": "tool"}], "more": [line] * 200}) as agent:
        for _ in range(3):  # each request may be answered at such length
            assert len(list(agent.request("tool"))) == 61
        with pytest.raises(DeviceFailed, match=r"sends events without end: more than 0 MB .* poses as EdgeCR's agent"):
            list(agent.request("more"))


def test_a_runtime_that_changed_between_processes_is_a_warning() -> None:
    arms = measurement().arms
    launches = [launch_of([{**ARM, "info": {"runtime": "onnxruntime", "version": one}}], arms) for one in "112"]
    assert changed_runtimes(arms, launches[:2], []) == []
    [text] = changed_runtimes(arms, launches, [])
    assert text.startswith("baseline was measured in onnxruntime 1 and in onnxruntime 2")


def test_a_fault_that_the_agent_told_is_not_called_unexpected(tmp_path: Path) -> None:
    fault = {"event": "fault", "message": "its disk is gone\x07."}
    with (
        fake(tmp_path / "log", {"probe": [fault], "bye": []}) as agent,
        pytest.raises(DeviceFailed) as told,
    ):
        agent._write(b'{"op": "probe"}\n{"op": "bye"}\n')
        agent._next(20)
    assert str(told.value) == "The agent ended: its disk is gone\\u0007."
