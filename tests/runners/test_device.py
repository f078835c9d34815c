from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import ClassVar

import pytest

from edgecr.core.errors import (
    DeviceFailed,
    FileProblem,
    NotConfigured,
    RecipeError,
    RequestError,
    UnknownName,
    WorkError,
)
from edgecr.runners import fitness
from edgecr.runners.agent.archive import agent_archive
from edgecr.runners.agent.protocol import ping_interval
from edgecr.runners.base import Arm, MeasurePlan, load_device, runner_for
from edgecr.runners.device import PING_S, Device, Protocol
from edgecr.runners.local import LocalRunner
from edgecr.runners.runtimes import RuntimeOptions, runtimes
from edgecr.runners.ssh import SshRunner, how_to_configure
from tests.runners.fitness_facts import facts
from tests.runners.tiny_device import quick_device
from tests.workplace import trusted


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text("name: mine\npurpose: tests\nkind: cpu\n" + text)
    return str(path)


def test_the_shipped_cpu_needs_nothing() -> None:
    assert isinstance(runner_for(load_device("cpu")), LocalRunner)


def test_the_shipped_jetson_says_what_to_write_where() -> None:
    with pytest.raises(NotConfigured) as told:
        runner_for(load_device("jetson"))
    for part in (
        "~/.ssh/config",
        "Host jetson",
        "edgecr devices add my-jetson --like jetson --host jetson --python edgecr/bin/python",
        "~/edgecr/bin/python -m pip install numpy onnxruntime",
    ):
        assert part in str(told.value)
    assert told.value.exit_code == 2


def test_a_board_stays_of_its_kind_and_installs_only_what_its_runtimes_need() -> None:
    pi = how_to_configure(load_device("rpi5"))
    assert "edgecr devices add my-rpi5 --like rpi5 --host rpi5" in pi
    tensorrt = load_device("jetson").model_copy(
        update={"runtimes": {"tensorrt": load_device("jetson").runtimes["tensorrt"]}}
    )
    told = how_to_configure(tensorrt)
    assert "pip install" not in told
    assert "--python" not in told


def test_a_board_with_a_host_is_reached_by_ssh(tmp_path: Path) -> None:
    text = "transport: {kind: ssh, host: orin, ssh_options: [-p, '2222']}"
    device = load_device(str(trusted(write(tmp_path, text))))
    runner = runner_for(device)
    assert isinstance(runner, SshRunner)
    command = runner.command()
    assert command[0] == "ssh"
    assert "StrictHostKeyChecking=yes" in command
    assert command[-5:-1] == ["-p", "2222", "--", "orin"]
    assert command[-1].count("'") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("transport: {kind: ssh, hots: orin}", "Did you mean 'host'"),
        ("transport: {kind: ssh, host: '-oProxyCommand=x'}", "host"),
        ("transport: {kind: ssh, host: 'a b'}", "host"),
        ("transport: {kind: serial}", "transport"),
        ("transport: {kind: local}\nprotocol: {launches: 0}", "launches"),
        ("transport: {kind: local}\nruntimes: {ort: {threads: 0}}", "threads"),
        ("transport: {kind: local}\nalign: 0", "align"),
        ("transport: {kind: local, lease_s: 4.9}", "lease_s.*every 5 s; a lease must last at least as long"),
        ("transport: {kind: ssh, host: orin, lease_s: 0}", "lease_s.*at least as long"),
        ("", "transport: this key is required"),
    ],
)
def test_mistakes_in_a_device_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_device(write(tmp_path, text))


def test_two_signs_of_life_may_be_late_in_every_allowed_lease(tmp_path: Path) -> None:
    device = load_device(write(tmp_path, "transport: {kind: local, lease_s: 5}"))
    assert 3 * ping_interval(device.transport.lease_s) <= device.transport.lease_s
    assert ping_interval(30.0) == PING_S


def test_overrides_are_checked_again() -> None:
    assert Protocol().override(launches=5, rounds=None).launches == 5
    assert Protocol().override(rounds=4).rounds == 4


def plan(tmp_path: Path, **changes) -> MeasurePlan:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")
    return MeasurePlan((Arm("a", path, **changes),))


def test_impossible_plans_are_refused_before_the_board_is_bothered(tmp_path: Path) -> None:
    device = quick_device()
    for wrong, kind in [
        (MeasurePlan(()), RequestError),
        (plan(tmp_path, batch=0), RequestError),
        (plan(tmp_path, runtime="tflite"), NotConfigured),
        (MeasurePlan((Arm("a", tmp_path / "none.onnx"),)), FileProblem),
        (MeasurePlan(plan(tmp_path).arms * 2), RequestError),
        (MeasurePlan(plan(tmp_path).arms, launches=0), RequestError),
    ]:
        with pytest.raises(kind):
            wrong.check(device)


def test_every_label_with_every_batch() -> None:
    arms = MeasurePlan.of({"a": Path("a"), "b": Path("b")}, [1, 64]).arms
    assert [(arm.label, arm.batch) for arm in arms] == [("a", 1), ("a", 64), ("b", 1), ("b", 64)]


def test_declarations_import_nothing_heavy() -> None:
    heavy = "{'torch', 'onnx', 'onnxruntime', 'openvino', 'sklearn', 'scipy'}"
    code = f"import edgecr.runners.base, edgecr.runners.measurement.summary, sys; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_fit_host_gives_no_warning() -> None:
    assert fitness.before(quick_device(), facts()) == []
    assert fitness.after(facts(), facts()) == []


def test_what_has_ended_is_not_held_against_a_host() -> None:
    assert fitness.before(quick_device(), facts(load=3.9, busy=0.2)) == []


def test_a_device_may_use_all_of_its_cores_but_not_beside_another_program() -> None:
    device = quick_device()
    cores = fitness.most_threads(device)
    assert fitness.before(device, facts(usable_cores=cores, busy=0.1)) == []
    assert any("is busy" in text for text in fitness.before(device, facts(usable_cores=cores, busy=0.5)))


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"busy": 3.5}, "3.5 of 4 cores.*No single program stood out"),
        ({"busy": None, "load": 3.5}, "No single program stood out"),
        ({"busy": 3.9, "busiest": [{"name": "x264", "pid": 9, "share": 3.9}]}, "programs first: x264 \\(pid 9"),
        ({"usable_cores": 0}, "Lower runtimes"),
        (
            {"cpufreq": {"governors": ["powersave"], "now": [], "allowed": [], "possible": []}},
            "cpupower frequency-set",
        ),
        (
            {"cpufreq": {"governors": [], "now": [], "allowed": [10**6], "possible": [2 * 10**6]}},
            "capped at 1.00 GHz",
        ),
        ({"memory": {"total_kb": 1000, "available_kb": 50}}, "Stop other programs"),
        (
            {"throttled": {"count": None, "flags": 0b101}},
            "under-voltage, throttled: use a stronger power supply",
        ),
    ],
)
def test_each_warning_names_its_remedy(changes, remedy) -> None:
    assert any(re.search(remedy, text) for text in fitness.before(quick_device(), facts(**changes)))


def test_what_happened_while_measuring_is_told() -> None:
    swapped, hot = fitness.after(facts(), facts(swapped_pages=5000, throttled={"count": 3, "flags": None}))
    assert "swapped 5000 pages while measuring: free memory" in swapped
    assert "throttled 3 times from heat while measuring: cool it, measure again" in hot


@pytest.mark.parametrize(
    ("expect", "found"),
    [
        ({"governor": "performance"}, {}),
        ({"l4t": "*R36*"}, {"l4t": "# R35 (release)"}),
        ({"max_temperature_c": 60.0}, {"temperatures": {"cpu": 71.0}}),
    ],
)
def test_a_board_in_another_state_than_expected_is_not_measured(expect, found) -> None:
    with pytest.raises(DeviceFailed, match="not as its file expects"):
        fitness.refuse_unexpected(quick_device(expect=expect), facts(**found))


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(UnknownName, match="jetson"):
        load_device("jetsno")


def test_runtimes_are_those_that_are_registered(tmp_path: Path) -> None:
    text = "transport: {kind: local}\nruntimes: {openvino: {}, ort: {threads: 3}}"
    device = load_device(write(tmp_path, text))
    assert device.runtime_options("ort")["threads"] == 3
    assert device.runtime_name("ort", "openvino") == "ort"
    assert device.plain()["runtimes"] == {"ort": {"threads": 3}, "openvino": {}}
    assert Device.parse(device.model_dump(mode="json")) == device
    for wrong, message in (("ortt", "Unknown runtime 'ortt'. Did you mean 'ort'"), ("openvin: {}, ort", "openvin")):
        with pytest.raises(RecipeError, match=message):
            load_device(write(tmp_path, f"transport: {{kind: local}}\nruntimes: {{{wrong}: {{}}}}"))
    with pytest.raises(RecipeError, match=r"runtimes\.ort\.threds: unknown key\. Did you mean 'threads'"):
        load_device(write(tmp_path, "transport: {kind: local}\nruntimes: {ort: {threds: 1}}"))


def test_a_runtime_that_a_record_says_is_not_there_is_left_out() -> None:
    values = quick_device().plain() | {"runtimes": {"ort": {"threads": 1}, "openvino": None}}
    assert list(Device.parse(values).runtimes) == ["ort"]


def test_the_module_of_a_runtime_from_elsewhere_takes_no_others_place(tmp_path: Path, monkeypatch) -> None:
    class Elsewhere(RuntimeOptions):
        agent_module: ClassVar[Path | None] = tmp_path / "mine.py"

    (tmp_path / "mine.py").write_text("RUNTIME = None\n")
    monkeypatch.setitem(runtimes._items, "mine", Elsewhere)
    names = zipfile.ZipFile(io.BytesIO(agent_archive())).namelist()
    assert "edgecr_agent/runtimes/mine.py" in names
    monkeypatch.setitem(runtimes._items, "base", Elsewhere)
    with pytest.raises(WorkError, match=r"runtimes/base\.py: the agent has a file of that name"):
        agent_archive()
    monkeypatch.delitem(runtimes._items, "base")
    (tmp_path / "mine.py").unlink()
    with pytest.raises(WorkError, match="does not exist"):
        agent_archive()
