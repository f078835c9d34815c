"""The whole chain of TensorRT on a pretended board, over SSH where a server can run: nothing here is a measurement."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import pytest

from edgecr.core.errors import DeviceFailed, FileProblem, RequestError
from edgecr.core.progress import Monitor
from edgecr.runners.base import Arm, Measurement, MeasurePlan, runner_for
from edgecr.runners.doctor import examine
from edgecr.runners.measurement.summary import compare, summarise
from edgecr.runners.power import Power
from edgecr.runners.runtimes.ort import OrtOptions
from edgecr.runners.tensorrt.session import TensorRtSession
from tests.runners.jetson import PretendedJetson, make_stale, write_artifact
from tests.runners.jetson.fake_trtexec import STUB
from tests.runners.test_ssh import board as board  # the fixture


@pytest.fixture
def jetson(tmp_path: Path) -> PretendedJetson:
    return PretendedJetson(tmp_path / "board")


@pytest.fixture
def two(tmp_path: Path) -> dict[str, Path]:
    return {
        "baseline": write_artifact(tmp_path / "base", 8, "tensorrt-jetpack6-fp32"),
        "candidate": write_artifact(tmp_path / "cand", 4),
    }


class Listening(Monitor):
    def __init__(self) -> None:
        self.told: list[str] = []

    def say(self, text: str) -> None:
        self.told.append(text)


def plan(models: dict[str, Path], batches=(1,), **further) -> MeasurePlan:
    return MeasurePlan.of(models, batches, "tensorrt", **further)


def left_on(jetson: PretendedJetson) -> list[str]:
    return [path.name for path in jetson.work.iterdir()]


def kept_on(jetson: PretendedJetson) -> list[str]:
    return sorted(path.parent.name for path in jetson.kept.rglob("*") if path.is_file())


def test_engines_are_built_timed_taken_apart_and_kept_over_ssh(board, jetson, two, tmp_path: Path) -> None:
    """The whole chain, twice: some twenty runs of the stub, each of which loads ONNX Runtime."""
    transport = board.runner().device.transport.model_dump(mode="json")
    device, monitor = jetson.device(transport=transport, env={"STUB_UNSTABLE": "1"}), Listening()
    result = runner_for(device).measure(plan(two), monitor)
    assert result.error is None
    turns = [(one.number, one.arm) for one in result.launches[0].rounds]
    assert sorted(turns) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(
        one.ns and one.run_ns is None and one.program.elapsed_ns > sum(one.ns) for one in result.launches[0].rounds
    )
    spans = sorted((one.start_ns, one.start_ns + one.window_ns) for one in result.launches[0].rounds)
    assert all(before < after for (_, before), (after, _) in itertools.pairwise(spans))
    assert all(one.window_ns >= sum(one.ns) for one in result.launches[0].rounds)
    states = [one.at_ns for one in result.launches[0].watched.states]
    assert states[0] < spans[0][0] < spans[-1][1] < states[-1]
    assert result.launches[0].ended == "rounds"
    start = result.launches[0].starts[0]
    assert (start.load_ns, start.first_ns, start.info["device_memory_mib"]) == (25_000_000, None, 1.5)
    assert [rate.streams for alone in result.alone for rate in alone.rates] == [1, 2, 1, 2]
    assert any("unstable in 2 turns" in text and "up to 6 %" in text for text in result.warnings)

    base, candidate = result.engines
    assert (base.gpu, base.capability, base.tensorrt) == (STUB, "8.7", "10.3.0")
    assert "--noTF32" in base.flags
    assert "--noTF32" not in candidate.flags
    assert [layer.name for layer in candidate.layers] == [
        "Reformatting CopyNode for Input Tensor 0",
        "Conv",
        "GlobalAveragePool",
    ]
    assert candidate.reformat_share == pytest.approx(1 / 3)
    assert candidate.precision_shares() == {"fp16": pytest.approx(1)}
    assert candidate.wall_ms > 0
    assert candidate.device_mib == 1.5
    assert "STUB" in candidate.log
    assert not base.cached
    assert not candidate.cached

    assert compare(result, "baseline", "candidate")[0].ratio is not None
    arm = summarise(result)[0]
    assert arm.cpu_ms is None
    assert "another processor" in arm.missing["cpu_ms"]
    result.save(tmp_path / "m.json")
    assert Measurement.load(tmp_path / "m.json") == result
    assert left_on(jetson) == []
    assert kept_on(jetson) == ["engines"] * 4 + ["timing"]
    assert any("built in" in text for text in monitor.told)

    quick = device.model_copy(
        update={"protocol": device.protocol.override(rounds=1).model_copy(update={"throughput": None})}
    )
    again = runner_for(quick).measure(plan(two), Monitor())
    assert again.error is None
    assert [(one.cached, one.sha256, one.seconds, one.log_sha256) for one in again.engines] == [
        (True, one.sha256, one.seconds, one.log_sha256) for one in result.engines
    ]


def test_an_engine_serves_every_batch_that_it_was_built_for(jetson, two) -> None:
    runner = runner_for(jetson.device(protocol={"rounds": 1, "throughput": None}, layers=False))
    result = runner.measure(plan(two, (1, 4)))
    assert result.error is None
    assert [engine.arms for engine in result.engines] == [(0, 1), (2, 3)]
    assert {one.arm for one in result.launches[0].rounds} == {0, 1, 2, 3}
    with pytest.raises(FileProblem, match="built for 1 to 16 images at once, not for 32"):
        runner.measure(plan(two, (32,)))


POWER = """#!/bin/sh
while :; do echo 'CPU [1%@102] tj@50.5C VDD_IN 4000mW/1mW VDD_SOC 1000mW/1mW'; sleep 0.01; done
"""


def test_the_energy_of_an_engine_is_that_of_its_turns(jetson, two) -> None:
    """Readings of a stub of tegrastats, which tells 4 W whatever happens."""
    jetson.put("tegrastats", POWER)
    busy = {"gate_wait": 0.99, "gate_steal": 0.99, "gate_switches": 1e9}  # the stub's power is constant all the same
    device = jetson.device(protocol={"rounds": 2, "round_s": 0.4, "throughput": None, **busy}, layers=False)
    device = device.model_copy(update={"power": Power.parse({"source": "tegrastats", "idle_s": 0.5})})
    result = runner_for(device).measure(plan(two))
    assert result.error is None
    assert set(result.launches[0].watched.power[0].rails) == {"VDD_IN", "VDD_SOC"}
    for number, arm in enumerate(summarise(result)):
        turns = [one for one in result.launches[0].rounds if one.arm == number]
        calls, seconds = sum(len(one.ns) for one in turns), sum(one.window_ns for one in turns) / 1e9
        assert arm.energy_mj is not None, arm.missing
        assert arm.energy_mj.value == pytest.approx(4.0 * seconds / calls * 1e3, rel=0.2)
        assert "VDD_IN" in arm.energy_mj.note
    assert left_on(jetson) == []


@pytest.mark.parametrize(
    ("digits", "target", "precision"),
    [("8201", "jetpack4-fp16", "fp16"), ("8502", "jetpack5-int8", "fp16"), ("110401", "jetpack7-int8", "fp16")],
)
def test_every_generation_is_spoken_to_in_its_own_flags(jetson, tmp_path: Path, digits, target, precision) -> None:
    model = write_artifact(tmp_path / "a", target=f"tensorrt-{target}")
    device = jetson.device(env={"STUB_VERSION": digits}, protocol={"rounds": 1, "throughput": None})
    result = runner_for(device).measure(plan({"candidate": model}))
    assert result.error is None
    assert list(result.engines[0].precision_shares()) == [precision]
    assert 77_000_000 not in result.launches[0].rounds[0].ns  # the warm-up, which old versions write as well


FAILURES = {
    "oom": "The board ran out of memory while building the engine. Lower runtimes.tensorrt.workspace_mb "
    "(now as the exported file asks), add swap, stop the desktop",
    "parser": "TensorRT 10.3.0 on the board cannot take the file: ModelImporter.cpp:949: ERROR: unsupported opset 23",
    "unknown": "trtexec 10.3.0 has no --newFlag",
}


@pytest.mark.parametrize("mode", FAILURES)
def test_a_build_that_fails_says_why_and_leaves_nothing(jetson, two, mode: str) -> None:
    result = runner_for(jetson.device(env={"STUB_MODE": mode})).measure(plan(two))
    assert FAILURES[mode] in (result.error or "")
    assert result.launches == ()
    assert left_on(jetson) == []
    assert "engines" not in kept_on(jetson)


def test_a_build_that_takes_too_long_is_stopped(jetson, two) -> None:
    start = time.monotonic()
    result = runner_for(jetson.device(env={"STUB_BUILD_S": "60"}, build_timeout_s=0.5)).measure(plan(two))
    assert "not built within 0.5 s. Raise runtimes.tensorrt.build_timeout_s" in (result.error or "")
    assert time.monotonic() - start < 30


def test_an_engine_that_does_not_load_any_more_is_built_anew(jetson, two) -> None:
    one = {"candidate": two["candidate"]}
    quick = {"rounds": 1, "throughput": None}
    runner_for(jetson.device(protocol=quick, layers=False)).measure(plan(one))
    make_stale(jetson)
    result = runner_for(jetson.device(protocol=quick, layers=False)).measure(plan(one))
    assert result.error is None
    assert not result.engines[0].cached
    assert any("does not load any more; building it anew" in text for text in result.warnings)


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_a_build_that_is_stopped_leaves_no_process_and_no_file(board, jetson, two, how: str) -> None:
    transport = board.runner().device.transport.model_dump(mode="json")
    runner = runner_for(jetson.device(transport=transport, env={"STUB_BUILD_S": "60"}))
    agent = runner.connect()
    session, failures = TensorRtSession(runner.device, plan(two), Monitor()), list[Exception]()

    def work() -> None:
        try:
            session.run(agent)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert _until(lambda: _running("STUB_BUILD_S=60")), "the build did not start"
    agent.cancel() if how == "cancel" else agent._process.kill()
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(failures[0], DeviceFailed)
    agent.close() if how == "cancel" else agent.kill()
    assert _until(lambda: not _running("STUB_BUILD_S=60") and left_on(jetson) == [])
    assert kept_on(jetson) == []


def _until(holds, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False


def _running(setting: str) -> list[int]:
    """The stubs of trtexec that have a setting in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stub = (
                b"fake_trtexec.py" in (folder / "cmdline").read_bytes()
                and b"saveEngine" in (folder / "cmdline").read_bytes()
            )
            if stub and setting.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_a_board_without_trtexec_says_where_it_usually_is(jetson, two) -> None:
    (jetson.tools / "trtexec").unlink()
    device = jetson.device(env={"PATH": str(jetson.tools)})
    assert "It is usually /usr/src/tensorrt/bin/trtexec" in (runner_for(device).measure(plan(two)).error or "")


def test_runtimes_that_cannot_alternate_are_refused_in_one_plan(jetson, two) -> None:
    device = jetson.device()
    device = device.model_copy(update={"runtimes": device.runtimes | {"ort": OrtOptions()}})
    mixed = MeasurePlan((Arm("a", two["baseline"], "tensorrt"), Arm("b", two["candidate"], "ort")))
    with pytest.raises(RequestError, match="tensorrt and ort cannot be measured in one session"):
        mixed.check(device)


def test_the_doctor_builds_and_runs_a_small_engine(jetson) -> None:
    found = {one.check: one for one in examine(jetson.device()).findings}
    assert found["inference in tensorrt"].state == "ok"
    assert "version 10.3.0" in found["inference in tensorrt"].text
    assert "package of tensorrt" not in found  # trtexec needs none
    (jetson.tools / "trtexec").write_text("#!/bin/sh\necho no driver; exit 1\n")
    broken = {one.check: one for one in examine(jetson.device()).findings}["inference in tensorrt"]
    assert (broken.state, broken.text) == ("fail", "trtexec on the board does not tell its version (no driver).")
