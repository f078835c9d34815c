"""An examination of a machine: what works, what does not, and what to do about it."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import onnx
import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core import builtin
from edgecr.runners.base import load_device
from edgecr.runners.device import Device
from edgecr.runners.doctor import _memory, _packages, _power, _reached, _state, examine, probe, write_tiny
from edgecr.runners.trust import vouched
from tests.runners.fitness_facts import facts, jetson
from tests.runners.jetson import PretendedJetson
from tests.runners.test_ssh import board as board  # the fixture
from tests.runners.tiny_device import quick_device

BOARDS = ("orin-nano", "orin-nx", "agx-orin", "xavier", "nano", "thor", "rpi4", "rpi5")


def found(examined, check: str):
    return [one for one in examined.findings if one.check == check]


def test_every_runtime_is_asked_for_an_inference_and_a_broken_one_stops_nothing() -> None:
    runtimes = {"ort": {"providers": ["CUDAExecutionProvider"]}, "openvino": {}}
    examined = examine(quick_device(runtimes=runtimes, transport={"kind": "local", "env": {"SECRET": "x"}}))
    (broken,), (working,) = found(examined, "inference in ort"), found(examined, "inference in openvino")
    assert broken.state == "fail"
    assert "has no CUDAExecutionProvider" in broken.text
    assert working.state == "ok", working.text
    assert re.search(r"version \d", working.text)
    assert examined.failed
    assert found(examined, "memory")[0].state == "ok"
    assert "SECRET" not in json.dumps(examined.model_dump(mode="json"))


def test_a_board_that_does_not_answer_is_one_failure_with_its_reason() -> None:
    ssh = {"kind": "ssh", "host": "127.0.0.1", "ssh_options": ["-p", "1"], "connect_timeout_s": 2}
    examined = examine(vouched(Device.parse({"name": "x", "purpose": "t", "kind": "cpu", "transport": ssh})))
    assert [(one.check, one.state) for one in examined.findings] == [("connection", "fail")]
    assert "cannot be reached" in examined.findings[0].text or "not installed" in examined.findings[0].text


def test_packages_that_are_missing_are_doubts_with_the_line_that_installs_them() -> None:
    known, lacking = _packages(
        quick_device(runtimes={"ort": {}, "openvino": {}}), facts(libraries={"onnxruntime": "1.2"})
    )
    assert (known.state, known.text) == ("ok", "onnxruntime 1.2")
    assert (lacking.state, lacking.remedy) == ("warn", "On the board: python3 -m pip install numpy openvino")


def test_remedies_for_a_boards_python_agree_and_name_a_venv_and_the_file(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\npurpose: t\nkind: rpi\ntransport: {kind: ssh, host: pi}\n")
    device = load_device(str(path))
    (lacking,) = _packages(device, facts(libraries={}))
    venv = "python3 -m venv ~/edgecr && ~/edgecr/bin/python -m pip install"
    assert lacking.remedy.startswith(f"On the board: {venv} numpy onnxruntime; then 'python: edgecr/bin/python'")
    assert str(path) in lacking.remedy
    (old,) = _packages(device, facts(libraries={}), "3.6.9")
    _, python = _reached(device, SimpleNamespace(hello={"python": "3.6.9"}))
    assert old.remedy == python.remedy
    assert f'{venv} "pip==21.3.1" && ~/edgecr/bin/python -m pip install "onnxruntime==1.10.0"' in old.remedy
    (newer,) = _packages(device, facts(libraries={}), "3.8.10")
    assert f'{venv} "onnxruntime==1.19.2" "numpy==1.24.4"; then' in newer.remedy
    own = device.model_copy(update={"transport": device.transport.model_copy(update={"python": "py/bin/python"})})
    (told,) = _packages(own, facts(libraries={}))
    assert told.remedy == "On the board: py/bin/python -m pip install numpy onnxruntime"


def test_the_pip_of_an_old_python_matters_only_where_packages_are_needed() -> None:
    agent = SimpleNamespace(hello={"python": "3.6.9"})
    assert [[*_reached(quick_device(runtimes={name: {}}), agent)][1].state for name in ("ort", "tensorrt")] == [
        "warn",
        "ok",
    ]


@pytest.mark.parametrize(
    ("model", "said"), [("Raspberry Pi 5 Model B", ""), ("Orin Nano", "'Orin Nano'"), (None, "device-tree")]
)
def test_a_pi_that_does_not_call_itself_one_is_a_doubt(model, said: str) -> None:
    told = [one.text for one in _state(quick_device(kind="rpi"), facts(model=model)) if "no Raspberry Pi" in one.text]
    assert [said in each for each in told] == [True] * bool(said)


def test_the_state_that_the_file_expects_is_a_failure_others_are_doubts() -> None:
    device = quick_device(kind="jetson", expect={"power_mode": "15W"})
    wrong, doubt, clocks = _state(device, jetson(tensorrt="10.7.0.1"))
    assert (wrong.state, doubt.state, clocks.state) == ("fail", "warn", "ok")
    assert "expected 15W" in wrong.text
    assert clocks.text == "locked; power mode MAXN_SUPER"


@pytest.mark.parametrize(
    ("power", "told", "state", "remedy"),
    [
        (None, {"source": "hwmon", "rails": ["VDD_IN"]}, "ok", "Add 'power: {source: hwmon}'"),
        ({}, {"source": "hwmon", "rails": ["VDD_IN"]}, "ok", ""),
        ({}, {"source": None, "missing": "rails need root"}, "warn", "Remove 'power:' from devices/quick.yaml"),
        (None, {"source": None, "missing": "rails need root"}, "warn", ""),
    ],
)
def test_power_sensors_count_as_the_file_wants_them(power, told, state, remedy) -> None:
    (one,) = _power(quick_device(power=power), facts(power=told))
    assert one.state == state
    assert remedy in one.remedy
    assert ("VDD_IN" in one.text) == bool(told["source"])


def test_memory_in_one_piece_is_told_where_there_is_any() -> None:
    memory = {"total_kb": 8_000_000, "available_kb": 5_000_000, "cma_total_kb": 262_144, "cma_free_kb": 9_000}
    (one,) = _memory(facts(memory=memory))
    assert one.text == "5,120 of 8,192 MB free, 9 of 268 MB in one piece (CMA) free"


def test_the_tiny_model_is_one_for_old_runtimes(tmp_path) -> None:
    model = onnx.load(write_tiny(tmp_path / "tiny.onnx"))
    onnx.checker.check_model(model)
    assert model.ir_version <= 7
    assert model.opset_import[0].version <= 13


@pytest.mark.parametrize("name", BOARDS)
def test_boards_are_data_that_wait_for_a_host(name: str) -> None:
    device = load_device(str(builtin.folder("devices") / f"{name}.yaml"))
    assert (device.transport.kind, device.transport.host) == ("ssh", None)
    assert device.kind == ("rpi" if name.startswith("rpi") else "jetson")
    assert (device.power is None) == (name == "rpi4")
    if device.power:
        assert device.protocol.round_s * 1e3 >= 3 * device.power.period_ms


def test_the_commands_write_only_what_they_are_asked_for(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cpu = str(builtin.folder("devices") / "cpu.yaml")
    probed = CliRunner().invoke(app, ["devices", "probe", cpu])
    assert probed.exit_code == 0, probed.output
    assert "usable_cores" in probed.output
    assert list(tmp_path.iterdir()) == []
    told = CliRunner().invoke(app, ["devices", "doctor", cpu, "-o", "found.json"])
    assert told.exit_code == 0, told.output
    assert "inference in ort" in told.output
    assert json.loads((tmp_path / "found.json").read_text())[0]["facts"]["usable_cores"] >= 1


def test_a_file_that_is_sent_on_does_not_tell_where_the_board_is(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "edgecr" / "devices").mkdir(parents=True)
    ssh = "{kind: ssh, host: 127.0.0.1, ssh_options: [-p, '1'], connect_timeout_s: 2}"
    text = f"name: mine\npurpose: t\nkind: cpu\ntransport: {ssh}\n"
    (tmp_path / "edgecr" / "devices" / "mine.yaml").write_text(text)
    told = CliRunner().invoke(app, ["devices", "doctor", "mine", "-o", str(tmp_path / "found.json")])
    assert told.exit_code == 1, told.output
    assert "Board '127.0.0.1' cannot be reached" in told.output
    (sent,) = json.loads((tmp_path / "found.json").read_text())[0]["findings"]
    assert sent["text"].startswith("Board 'BOARD' cannot be reached: ")
    assert "127.0.0.1" not in (tmp_path / "found.json").read_text()


def test_a_pretended_jetson_builds_and_runs_the_tiny_model_in_tensorrt(tmp_path) -> None:
    examined = examine(PretendedJetson(tmp_path / "board").device())
    (told,) = found(examined, "inference in tensorrt")
    assert (told.state, "10.3.0" in told.text) == ("ok", True), told.text
    assert not found(examined, "package of tensorrt")
    assert not found(examined, "kernel counters")


def test_a_board_is_examined_and_probed_over_ssh(board) -> None:
    device = board.runner().device
    examined = examine(device)
    assert found(examined, "connection")[0].text.endswith("answers (ssh)")
    assert found(examined, "inference in ort")[0].state == "ok"
    assert probe(device)["usable_cores"] >= 1
