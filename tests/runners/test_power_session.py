"""Power on the way from a board's tool to a figure: the real agent, with a ``tegrastats`` of the test's own."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgecr.core.progress import Monitor
from edgecr.runners.agent.watching import idle
from edgecr.runners.base import Manner, MeasurePlan, runner_for
from edgecr.runners.measurement.record import Measurement
from edgecr.runners.measurement.summary import compare, summarise
from tests.runners.tiny_device import quick_device

TOOL = "#!/bin/sh\nwhile :; do echo 'CPU [1%@102] tj@50.5C VDD_IN 4000mW/1mW VDD_SOC 1000mW/1mW'; sleep 0.02; done\n"
PROTOCOL = {
    "launches": 2,
    "rounds": 4,
    "round_s": 0.25,
    "least_rounds": 1,
    "warmup": {"window_s": 0.002, "max_s": 0.1},
    "gate_wait": 0.99,  # the power of a busy machine is as constant as that of a calm one: the tool is not real
    "gate_steal": 0.99,
    "gate_switches": 1e9,
}


@pytest.fixture
def powered(tmp_path: Path):
    tool = tmp_path / "bin" / "tegrastats"
    tool.parent.mkdir()
    tool.write_text(TOOL)
    tool.chmod(0o755)
    return quick_device(
        kind="jetson",
        transport={"kind": "local", "env": {"PATH": f"{tool.parent}:{os.environ['PATH']}"}},
        protocol=PROTOCOL,
        power={"source": "tegrastats", "idle_s": 0.8},
    )


def test_energy_is_read_beside_the_rounds_and_kept_raw(powered, models, tmp_path: Path) -> None:
    found = runner_for(powered).measure(MeasurePlan.of(models, [1]))
    assert found.error is None
    found.save(tmp_path / "m.json")
    assert Measurement.load(tmp_path / "m.json") == found
    assert set(found.idle.power[0].rails) == {"VDD_IN", "VDD_SOC"}
    launch = found.launches[0]
    assert launch.watched.sensor.source == "tegrastats"
    ends = [each.at_ns for each in launch.watched.states]
    assert ends[0] < launch.rounds[0].start_ns < launch.rounds[-1].start_ns < ends[-1]
    for arm, summary in enumerate(summarise(found)):
        times = [one for each in found.launches for one in each.rounds if one.arm == arm]
        per_call = sum(one.elapsed_ns for one in times) / sum(len(one.ns) for one in times)
        assert summary.energy_mj is not None, summary.missing
        assert summary.energy_mj.value == pytest.approx(4.0 * per_call / 1e6, rel=0.2)  # watts times milliseconds
        assert "VDD_IN" in summary.energy_mj.note
        net = summary.energy_net_mj  # the tool tells the same power whatever the board does
        assert net is None or net.value < 0.01 * summary.energy_mj.value
        assert summary.board_memory_mb.value >= 0
    assert compare(found, "baseline", "candidate")[0].energy_ratio.value > 0


@pytest.mark.parametrize(("source", "asked"), [(None, []), ("hwmon", ["idle"])])
def test_nobody_waits_for_the_idle_power_of_a_board_without_a_sensor(source, asked: list[str]) -> None:
    found: list[str] = []

    def request(name: str, **_):
        found.append(name)
        return iter(())

    device = quick_device(power={})
    idle(SimpleNamespace(request=request), device, {"power": {"source": source}}, Monitor())
    assert found == asked


def test_a_board_in_another_state_is_measured_by_force_only(models) -> None:
    device = quick_device(expect={"power_mode": "MAXN"})
    plan = MeasurePlan.of({"baseline": models["baseline"]}, [1], launches=1, rounds=1)
    refused = runner_for(device).measure(plan)
    assert "the power mode is unknown" in refused.error
    assert "--force" in refused.error
    forced = MeasurePlan.of({"baseline": models["baseline"]}, [1], launches=1, rounds=1, manner=Manner(force=True))
    found = runner_for(device).measure(forced)
    assert found.error is None
    assert any(text.startswith("Measured by force, although quick") for text in found.warnings)
