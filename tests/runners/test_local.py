from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgecr.core.errors import DeviceFailed, FileProblem
from edgecr.core.progress import Bar, Monitor
from edgecr.predictors.openvino_file import openvino_library, read_openvino
from edgecr.runners.agent import protocol
from edgecr.runners.agent.archive import BOOT, agent_archive
from edgecr.runners.agent.payload import payload_of
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.agent.runner import AgentRunner
from edgecr.runners.agent.session import asked_arm
from edgecr.runners.base import Arm, MeasurePlan, runner_for
from edgecr.runners.measurement.record import Measurement
from edgecr.runners.measurement.summary import compare, summarise
from tests.runners.tiny_device import quick_device, write_onnx
from tests.skips import has_openvino


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    """Two models with two batch sizes, measured once for all tests that look at the result."""
    folder = tmp_path_factory.mktemp("models")
    models = {"baseline": write_onnx(folder / "a.onnx", 8), "candidate": write_onnx(folder / "b.onnx", 4)}
    return runner_for(quick_device()).measure(MeasurePlan.of(models, [1, 3], seed=5))


def test_nothing_failed(session: Measurement) -> None:
    assert session.error is None
    assert [(arm.label, arm.batch) for arm in session.arms] == [
        ("baseline", 1),
        ("baseline", 3),
        ("candidate", 1),
        ("candidate", 3),
    ]


def test_every_launch_has_every_arm_in_every_round_interleaved(session: Measurement) -> None:
    assert len(session.launches) == 2
    orders = [
        [one.arm for one in launch.rounds if one.number == number] for launch in session.launches for number in range(3)
    ]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len({tuple(order) for order in orders}) > 1


def test_raw_samples_and_contention_are_there(session: Measurement) -> None:
    for launch in session.launches:
        assert all(len(one.ns) >= 1 and min(one.ns) > 0 for one in launch.rounds)
        assert all(one.run_ns is None or one.run_ns > 0 for one in launch.rounds)
        assert {start.arm for start in launch.starts} == {0, 1, 2, 3}
        assert all(start.info["runtime"] == "onnxruntime" for start in launch.starts)


def test_memory_is_measured_with_a_process_for_each_arm(session: Measurement) -> None:
    assert [alone.start.arm for alone in session.alone] == [0, 1, 2, 3]
    for alone in session.alone:
        kb = alone.start.memory_kb
        assert 0 < kb["empty"] < kb["imported"] <= kb["loaded"] <= kb["inferred"]
        assert kb["empty"] < 40 * 1024
        assert [rate.streams for rate in alone.rates] == [1, 2]


def test_it_survives_the_disk(session: Measurement, tmp_path: Path) -> None:
    session.save(tmp_path / "m.json")
    assert Measurement.load(tmp_path / "m.json") == session


def test_figures_follow(session: Measurement) -> None:
    summaries = summarise(session)
    assert all(one.cpu_ms is None or one.cpu_ms.value > 0 for one in summaries)
    assert all(one.peak_memory_mb.value > 0 and one.load_ms.value > 0 for one in summaries)
    assert [one.batch for one in compare(session, "baseline", "candidate")] == [1, 3]


def test_progress_is_told(models, quick) -> None:
    seen = []

    class Seen(Bar):
        def advance(self, amount: float = 1, **facts: str) -> None:
            seen.append(facts["launch"])

    class Watch(Monitor):
        def bar(self, label: str, total: float, done: float = 0) -> Bar:
            assert total == 4
            return Seen()

    runner_for(quick).measure(MeasurePlan.of(models, [1], launches=1, rounds=2), Watch())
    assert seen == ["1/1"] * 4


def failure(device, path: Path, **arm) -> str:
    result = runner_for(device).measure(MeasurePlan((Arm("candidate", path, **arm),)))
    assert result.error
    assert all(one.p50_ms is None for one in summarise(result))
    return result.error


def test_a_truncated_model_is_an_error_value_that_names_the_arm(models, quick) -> None:
    path = models["candidate"]
    path.write_bytes(path.read_bytes()[:100])
    assert failure(quick, path).startswith("candidate (ort, batch 1): onnxruntime")


def test_a_fixed_batch_says_what_to_do(tmp_path: Path, quick) -> None:
    path = write_onnx(tmp_path / "fixed.onnx", batch=1)
    assert "Export with a dynamic batch" in failure(quick, path, batch=2)


def test_a_missing_provider_says_what_there_is(models) -> None:
    device = quick_device(runtimes={"ort": {"providers": ["NoSuchProvider"]}})
    assert "no NoSuchProvider, only" in failure(device, models["candidate"])


@pytest.mark.skipif(not has_openvino(), reason="openvino is not installed")
def test_openvino_measures_its_own_two_files_and_onnx_in_the_declared_precision(models, tmp_path: Path) -> None:
    own = tmp_path / "model.xml"
    openvino_library().save_model(read_openvino(models["candidate"]), own)
    arms = tuple(Arm(path.suffix, path, "openvino", 2, beside) for path, beside in (
        (models["candidate"], ()), (own, ("model.bin",)),
    ))  # fmt: skip
    result = runner_for(quick_device(runtimes={"openvino": {}})).measure(MeasurePlan(arms, launches=1))
    assert result.error is None
    starts = result.launches[0].starts
    assert [start.info["settings"]["INFERENCE_PRECISION_HINT"] for start in starts] == ["f32", "f32"]


def connect(**changes) -> Connection:
    settings = {"env": {}, "lease_s": 30.0, "hello_s": 30.0} | changes
    return Connection([sys.executable, "-u", "-c", BOOT], **settings)


def test_a_runtime_that_the_agent_does_not_know(tmp_path: Path) -> None:
    arm = {"label": "x", "model": "m", "runtime": "tflite", "batch": 1, "config": {}}
    with connect() as agent, pytest.raises(DeviceFailed, match="no runtime 'tflite', only openvino, ort, tensorrt"):
        agent.ask("alone", arm=0, streams=[], seconds=0, **arm)


def test_an_unknown_request_and_a_damaged_one_leave_the_agent_alive() -> None:
    with connect() as agent:
        with pytest.raises(DeviceFailed, match="unknown request 'dance'"):
            agent.ask("dance")
        agent._write(b"nonsense\n")
        with pytest.raises(DeviceFailed, match="Not a request"):
            agent.ask("probe")
        agent._next(10)
        assert agent.ask("probe")["facts"]["cores"] >= 1


def test_a_damaged_upload_is_tried_once_more_and_then_refused(models, monkeypatch) -> None:
    tries, original = [], Connection._put
    monkeypatch.setattr(protocol, "sha256", lambda path: "0" * 64)
    monkeypatch.setattr(Connection, "_put", lambda self, *given: tries.append(given) or original(self, *given))
    with connect() as agent, pytest.raises(DeviceFailed, match="checksum mismatch"):
        agent.put(models["baseline"], "m.onnx")
    assert len(tries) == 2


def gone(path: Path, patience_s: float = 10) -> bool:
    end = time.monotonic() + patience_s
    while path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return not path.exists()


def test_a_polite_end_removes_the_work_folder() -> None:
    with connect() as agent:
        work = Path(agent.hello["work"])
        assert work.is_dir()
        assert work.stat().st_mode & 0o077 == 0
    assert not work.exists()


CLIENT = """
import sys, time
from edgecr.runners.agent.archive import BOOT
from edgecr.runners.agent.protocol import Connection
agent = Connection([sys.executable, "-u", "-c", BOOT], env={}, lease_s=30, hello_s=30)
agent._write(b'{"op": "tool", "argv": ["tegrastats"]}\\n')
print(agent.hello["work"], agent._next(20)["text"], flush=True)
time.sleep(60)
"""


def test_the_agent_and_its_tools_die_when_the_client_is_killed(tmp_path: Path) -> None:
    tool = tmp_path / "tegrastats"
    tool.write_text("#!/bin/sh\necho $$\nexec sleep 300\n")
    tool.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path)}
    client = subprocess.Popen([sys.executable, "-c", CLIENT], stdout=subprocess.PIPE, env=env, text=True)
    work, tool_pid = client.stdout.readline().split()
    assert Path(f"/proc/{tool_pid}").exists()
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()
    assert gone(Path(work))
    assert gone(Path(f"/proc/{tool_pid}"))


def test_silence_longer_than_the_lease_ends_the_agent_with_a_message(monkeypatch) -> None:
    monkeypatch.setattr(protocol, "ping_interval", lambda lease_s: 60.0)
    agent = connect(lease_s=0.4)
    work = Path(agent.hello["work"])
    try:
        assert gone(work)
        with pytest.raises(DeviceFailed, match=r"no sign of life for 0\.4 s"):
            agent.ask("probe")
    finally:
        agent.kill()


def test_cancel_stops_a_tool_and_keeps_the_connection(tmp_path: Path) -> None:
    tool = tmp_path / "tegrastats"
    tool.write_text("#!/bin/sh\necho started\nexec sleep 300\n")
    tool.chmod(0o755)
    with connect(env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}) as agent:
        events = agent.request("tool", argv=["tegrastats"])
        assert next(events)["text"] == "started"
        agent.cancel()
        with pytest.raises(DeviceFailed, match="cancelled"):
            next(events)
        assert agent.ask("probe")["facts"]


def test_noise_before_and_within_the_protocol_is_tolerated(monkeypatch) -> None:
    noisy = 'print("Welcome to the board!");print("no newline",end="",flush=True);' + BOOT
    with Connection([sys.executable, "-u", "-c", noisy], env={}, lease_s=30, hello_s=30) as agent:
        assert agent.ask("probe")["facts"]["cores"] >= 1
        assert agent._noise == ["Welcome to the board!", "no newline"]


def test_a_board_without_the_program_is_an_error_value(models, quick) -> None:
    class Broken(AgentRunner):
        def start(self) -> Connection:
            return Connection(
                [sys.executable, "-c", "raise SystemExit('out of coffee')"], env={}, lease_s=1, hello_s=20
            )

    result = Broken(quick).measure(MeasurePlan.of(models, [1]))
    assert "out of coffee" in (result.error or "")


def test_a_board_that_dies_keeps_what_it_had_sent(models, tmp_path: Path) -> None:
    class Dying(AgentRunner):
        def start(self) -> Connection:
            connection = Connection(
                [sys.executable, "-u", "-c", BOOT], env={"TMPDIR": str(tmp_path)}, lease_s=30, hello_s=30
            )
            self.pid = connection.pid
            return connection

    runner = Dying(quick_device(protocol={"launches": 2, "rounds": 200, "round_s": 0.01}))

    class Killer(Bar):
        turns = 0

        def advance(self, amount: float = 1, **facts: str) -> None:
            self.turns += 1
            if self.turns == 5:
                os.kill(runner.pid, signal.SIGKILL)

    class Watch(Monitor):
        def bar(self, label: str, total: float, done: float = 0) -> Bar:
            return Killer()

    result = runner.measure(MeasurePlan.of(models, [1]), Watch())
    assert "That was in launch 1 of 2, after" in (result.error or "")
    assert (result.error or "").endswith(" rounds. What was measured until then is kept as partial.")
    assert len(result.launches[0].rounds) >= 5


def test_the_archive_is_the_same_bytes_each_time() -> None:
    first = agent_archive()
    assert agent_archive() == first


def test_what_is_read_beside_a_job_that_fails_comes_before_its_error(models) -> None:
    """An event after it would be taken for the answer to the next request."""
    runner = runner_for(quick_device(runtimes={"ort": {"providers": ["CUDAExecutionProvider"]}}))
    payload = payload_of(models["baseline"], (1,))
    with runner.connect() as agent:
        payload.send(agent.put)
        arm = asked_arm(runner.device, "a", "ort", 1, payload, payload.needs[1])
        for _ in range(3):
            with pytest.raises(DeviceFailed, match="has no CUDAExecutionProvider"):
                list(agent.request("alone", arm=0, streams=(), seconds=0.0, watch={"state_s": 0.001}, **arm))
            assert agent.ask("probe")["event"] == "done"
            assert agent._events.empty()


def test_a_file_that_changed_while_it_waited_is_not_measured_under_its_old_hash(quick, models, monkeypatch) -> None:
    original = AgentRunner.connect

    def connect(self, *words, **more):
        models["baseline"].write_bytes(models["candidate"].read_bytes())
        return original(self, *words, **more)

    monkeypatch.setattr(AgentRunner, "connect", connect)
    with pytest.raises(FileProblem, match="was changed while it waited to be sent"):
        runner_for(quick).measure(MeasurePlan.of(models, [1]))
