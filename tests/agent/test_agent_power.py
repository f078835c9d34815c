"""Readings of power and of the board's state beside a job, from boards that are not here."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from tests.agent.boards import INA, LAPTOP, ORIN_NANO, RAPL, board

LINES = {
    "RAM 331/3964MB (lfb 758x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [1%@102,off] EMC_FREQ 3%@204 "
    "GR3D_FREQ 22%@76 APE 25 PLL@20.5C CPU@23.5C POM_5V_IN 933/940 POM_5V_GPU 0/0 POM_5V_CPU 84/105": {
        "POM_5V_IN": 933, "POM_5V_GPU": 0, "POM_5V_CPU": 84,
    },
    "RAM 9/15MB GR3D_FREQ 33%@1377 thermal@27.45C GPU 1155/1155 CPU 385/385 SOC 2502/2502 CV 0/0 SYS5V 2692/2692": {
        "GPU": 1155, "CPU": 385, "SOC": 2502, "CV": 0, "SYS5V": 2692,
    },
    "04-27-2026 15:00:54 RAM 779/7620MB (lfb 2x4MB) GR3D_FREQ 0% cpu@50.125C tj@50.562C VDD_IN 6626mW/6625mW "
    "VDD_CPU_GPU_CV 1228mW/1230mW VDD_SOC 2380mW/2380mW": {"VDD_IN": 6626, "VDD_CPU_GPU_CV": 1228, "VDD_SOC": 2380},
    "GR3D_FREQ 0%@0 CV0@-256C tj@42.593C VDD_GPU_SOC 2399mW/2399mW NC 0mW/0mW VIN_SYS_5V0 4032mW/4032mW": {
        "VDD_GPU_SOC": 2399, "VIN_SYS_5V0": 4032,
    },
    "GR3D_FREQ 12%@[1300,1300] cpu@52.968C/52.968C VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW": {
        "VDD_GPU_SOC": 5139, "VDD_CPU_CV": 3268,
    },
    "GR3D_FREQ @[314,314,314] tj@38.875C VDD_GPU -392mW/1962mW VDD_CPU_SOC_MSS 5887mW/5887mW VIN 19780mW/19780mW": {
        "VDD_GPU": -392, "VDD_CPU_SOC_MSS": 5887, "VIN": 19780,
    },
}  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=["nano", "xavier", "orin-nano", "agx-orin", "agx-orin-7", "thor"])
def test_the_rails_of_every_generation_of_tegrastats(agent, line: str) -> None:
    assert agent("tegrastats").rails(line) == LINES[line]


def test_rails_of_a_chip_are_read_without_unused_channels_and_sums(agent, tmp_path: Path) -> None:
    sensor, reason = agent("power").find("auto", board(tmp_path, ORIN_NANO))
    ((_, found),) = sensor.take()
    assert (sensor.source, sensor.unit, reason) == ("hwmon", "mw", "")
    assert found == {"VDD_IN": 6500.0, "VDD_CPU_GPU_CV": pytest.approx(4990 * 246 / 1000)}
    os.remove(tmp_path / INA / "curr2_input")  # a gated rail answers with an error
    assert sensor.take()[0][1]["VDD_CPU_GPU_CV"] is None


def test_a_chip_that_tells_power_itself_may_have_no_label(agent, tmp_path: Path) -> None:
    folder = "sys/class/hwmon/hwmon1/"
    root = board(
        tmp_path, {folder + "name": "ina238\n", folder + "label": "VIN\n", folder + "power1_input": "19780000\n"}
    )
    assert {name: read() for name, read in agent("power").monitors(root).items()} == {"VIN": 19780.0}


def test_the_driver_of_jetpack_4(agent, tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/"
    root = board(tmp_path, {folder + "rail_name_0": "POM_5V_IN\n", folder + "in_power0_input": "2591\n"})
    ((_, found),) = agent("power").find("hwmon", root)[0].take()
    assert found == {"POM_5V_IN": 2591.0}


def test_an_energy_counter_that_begins_again_goes_on(agent, tmp_path: Path) -> None:
    sensor, _ = agent("power").find("rapl", board(tmp_path, LAPTOP))
    assert sensor.take()[0][1] == {"package-0": 0.0}
    board(tmp_path, {RAPL + "energy_uj": "1671150\n"})
    assert sensor.take()[0][1] == {"package-0": 2e6}
    board(tmp_path, {RAPL + "energy_uj": "1671151\n"})
    assert sensor.take()[0][1] == {"package-0": 2e6 + 1}


def test_the_reason_for_no_sensor_is_told(agent, tmp_path: Path, monkeypatch) -> None:
    power = agent("power")
    monkeypatch.setattr(power.tools, "told", lambda argv: None)
    monkeypatch.setattr(power.shutil, "which", lambda *_, **__: None)
    assert power.find("auto", str(tmp_path)) == (None, power.NO_SENSOR)
    assert power.find("rapl", str(tmp_path)) == (None, power.NO_RAPL)
    root = board(tmp_path, {name: text for name, text in LAPTOP.items() if not name.endswith(":0/energy_uj")})
    assert "a virtual machine, a board without one, or rails that need root" in power.NO_SENSOR
    reason = power.find("auto", root)[1]
    assert "energy_uj is readable by root only (CVE-2020-8694)" in reason
    assert re.search(r"sudo chmod o\+r \S+energy_uj until it restarts, or a udev rule", reason)


def test_rails_of_a_raspberry_pi_need_both_voltage_and_current(agent) -> None:
    text = (
        " 3V7_WL_SW_A current(0)=0.05A\n   VDD_CORE_A current(7)=2.00000000A\n"
        "     VDD_CORE_V volt(15)=0.90000000V\n EXT5V_V volt(24)=5.10000000V\n"
    )
    assert agent("power").pmic_rails(text) == {"VDD_CORE": pytest.approx(1800)}
    assert agent("power").pmic_rails(None) == {}


def watched(agent, root: str, seconds: float, **plan):
    """The events of a job that rests for so long."""
    events: list[dict] = []
    watch = agent("watch")
    watcher = watch.Watcher(lambda name, **fields: events.append({"event": name, **fields}), root)
    with watcher.during({"watch": {"state_s": 0.1, "period_s": 0.01, **plan}}):
        watch.rest(seconds, lambda: False)
    return events


def named(events: list[dict], name: str) -> list[dict]:
    return [one for one in events if one["event"] == name]


def test_a_job_is_watched_from_its_beginning_to_its_end(agent, tmp_path: Path) -> None:
    before = time.perf_counter_ns()
    events = watched(agent, board(tmp_path, ORIN_NANO), 0.3, power="auto", memory_s=0.02)
    (sensor,) = named(events, "sensor")
    assert (sensor["source"], sensor["reason"]) == ("hwmon", "")
    (power,) = named(events, "power")
    assert power["unit"] == "mw"
    assert set(power["rails"]) == {"VDD_IN", "VDD_CPU_GPU_CV"}
    assert len(power["at_ns"]) == len(power["rails"]["VDD_IN"]) > 10
    assert before < power["at_ns"][0] <= power["at_ns"][-1] < time.perf_counter_ns()
    assert power["at_ns"][-1] - power["at_ns"][0] > 0.2e9
    assert power["at_ns"] == sorted(power["at_ns"])
    assert set(named(events, "free")[0]["kb"]) == {5000000}
    first, *_, last = named(events, "state")
    assert (first["gpu_hz"], first["over_current"], first["temperatures"]) == (
        306000000, {"oc1": 0, "oc3": 41}, {"tj-thermal": 50.562},
    )  # fmt: skip
    assert last["at_ns"] - first["at_ns"] > 0.2e9
    assert not named(events, "unwatched")


def test_a_job_that_asks_for_nothing_is_not_watched(agent, tmp_path: Path) -> None:
    events: list[str] = []
    watcher = agent("watch").Watcher(lambda name, **_: events.append(name), str(tmp_path))
    with watcher.during({"op": "bench"}):
        pass
    assert events == []


def test_a_sensor_that_fails_harms_no_job(agent, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(agent("power").Polled, "take", lambda _: 1 / 0)
    events = watched(agent, board(tmp_path, ORIN_NANO), 0.05, power="hwmon")
    assert "ZeroDivisionError" in named(events, "unwatched")[0]["message"]


def test_a_running_tegrastats_is_read_and_ended(agent, tmp_path: Path, monkeypatch) -> None:
    tool = tmp_path / "bin" / "tegrastats"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nwhile :; do echo 'VDD_IN 6626mW/6625mW'; sleep 0.02; done\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    (power,) = named(watched(agent, str(tmp_path), 0.4, power="tegrastats"), "power")
    assert set(power["rails"]["VDD_IN"]) == {6626.0}
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
