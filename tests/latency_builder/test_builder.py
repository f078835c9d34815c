"""Building latency tables: the real agent on tiny layers, and breaks in the middle."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from edgecr.core.errors import DeviceFailed, NotConfigured, RequestError
from edgecr.core.progress import Monitor
from edgecr.latency import Entry, LatencyTable, LayerConfig, Staircase, common_step
from edgecr.latency_builder import builder as latency_table
from edgecr.latency_builder.builder import (
    Model,
    TableBuilder,
    batches,
    default_path,
    entry_of,
    machine_of,
    natural_clock,
)
from edgecr.latency_builder.layer_models import input_shape, output_shape, write_layer
from edgecr.latency_builder.stairs import costly, stair_counts, staircase
from edgecr.runners.base import load_device
from edgecr.runners.measurement.record import Round
from tests.runners.tiny_device import quick_device, write_onnx

TINY = [LayerConfig("conv", 4, count, 1, 6, 6, (3, 3), padding=(1, 1)) for count in (4, 8, 12)]
KINDS = [
    LayerConfig("conv", 6, 12, 2, 9, 7, (3, 1), (2, 1), (1, 0), (1, 1), 3),
    LayerConfig("conv", 8, 8, 1, 8, 8, (3, 3), (1, 1), (2, 2), (2, 2), 8),
    LayerConfig("linear", 10, 3, 2, 5),
]


@pytest.fixture
def quick(monkeypatch):
    """A layer takes milliseconds."""
    short = {
        "launches": 1,
        "rounds": 2,
        "round_s": 0.001,
        "least_rounds": 2,
        "warmup": {"window_s": 0.001, "max_s": 0.005},
    }
    monkeypatch.setattr(latency_table, "LAYER_PROTOCOL", short)
    monkeypatch.setattr(latency_table, "MODEL_PROTOCOL", short)
    return quick_device()


@pytest.fixture
def measured_layers(monkeypatch):
    """Layers without a device: notes which ones were asked for; ``broken`` says which call fails."""

    class Rounds:
        def __init__(self):
            self.asked, self.broken = [], None

        def __call__(self, builder, device, batch):
            if self.broken and any(c in self.broken for c in batch):
                raise DeviceFailed("The board went away.")
            self.asked += batch
            return [Entry(wall_ns=(c.cout * 1000,), cpu_ns=(c.cout * 900,)) for c in batch]

    found = Rounds()
    monkeypatch.setattr(TableBuilder, "_entries", lambda self, *rest: found(self, *rest))
    monkeypatch.setattr(latency_table, "LAYERS_AT_ONCE", 1)
    return found


@pytest.mark.parametrize("config", [*TINY, *KINDS])
def test_layer_files_compute_what_the_configuration_says(config, tmp_path):
    from onnx.reference import ReferenceEvaluator

    write_layer(config, tmp_path / "l.onnx")
    model = onnx.load(tmp_path / "l.onnx")
    onnx.checker.check_model(model, full_check=True)
    (out,) = ReferenceEvaluator(model).run(None, {"x": np.ones(input_shape(config), np.float32)})
    assert list(out.shape) == output_shape(config)
    weight = model.graph.initializer[0]
    assert math.prod(weight.dims) == config.weights


def test_the_agent_measures_every_kind_of_layer_once(quick, tmp_path):
    path = tmp_path / "t.json"
    with TableBuilder(quick, path=path) as builder:
        assert builder.measure([*TINY, *KINDS, *TINY]) == 6
        assert builder.measure(TINY) == 0
        assert builder.table.clock == "cpu"
    again = LatencyTable.load(path)
    assert again.machine.device == "quick"
    assert again.machine.version
    assert all(again.latency(config).ms > 0 for config in [*TINY, *KINDS])
    for one in again.entries.values():
        assert len(one.wall_ns) in (2, 4, 6), "two rounds in each session, and up to three sessions on a busy machine"
        assert len(one.gauge_ns) == len(one.cpu_ns) == len(one.wall_ns)
        assert min(one.gauge_ns) > 0


def turn(ns, wait=0, number=0):
    return Round(arm=0, number=number, start_ns=0, ns=(ns,), run_ns=ns - 1, wait_ns=wait, switches=0, steal=0)


def test_rounds_that_had_to_wait_are_left_out_when_others_are_there():
    waited, first, second = turn(900, 500), turn(1000, 0, 1), turn(1010, 10, 2)
    gauge = [turn(50 + number, number=number) for number in range(3)]
    found = entry_of([waited, first, second], gauge, "wall")
    assert (found.wall_ns, found.gauge_ns) == ((1000, 1010), (51, 52))
    assert entry_of([waited, first, second], gauge, "cpu").gauge_ns == (50, 51)
    assert len(entry_of([waited, turn(901, 500, 1), second], gauge, "wall").wall_ns) == 3


@pytest.fixture
def sessions(monkeypatch):
    """A device whose sessions are as slow as the list says, one factor a session; the last one stays."""

    class Sessions:
        factors, held = [1.0], 0

        def __call__(self, builder, device, arms):
            factor = self.factors[min(self.held, len(self.factors) - 1)]
            self.held += 1
            return [
                [turn(round(1000 * (number + 1) * factor), number=n) for n in range(4)] for number in range(len(arms))
            ]

    found = Sessions()
    monkeypatch.setattr(TableBuilder, "_session", lambda self, *rest: found(self, *rest))
    monkeypatch.setattr(latency_table, "LAYERS_AT_ONCE", 1)
    return found


@pytest.mark.parametrize(("factors", "held"), [([1.5, 1.0, 1.0], 4), ([1.0, 1.5, 1.02], 4), ([1.0, 1.05, 1.0], 3)])
def test_layers_are_measured_again_when_the_gauge_was_slow(quick, tmp_path, sessions, factors, held):
    sessions.factors = factors
    with TableBuilder(quick, path=tmp_path / "t.json", clock="wall") as builder:
        builder.measure(TINY)
        found = [builder.table.latency(config).ms for config in TINY]
    assert found == pytest.approx([1e-3] * 3, rel=0.05)
    assert sessions.held == held


def test_a_device_that_stays_slow_is_told_and_its_calmest_rounds_are_kept(quick, tmp_path, sessions):
    class Heard(Monitor):
        told = ""

        def warn(self, text):
            self.told += text

    monitor = Heard()
    sessions.factors = [1.0, *[1.6, 1.5, 1.4] * 2]
    with TableBuilder(quick, path=tmp_path / "t.json", clock="wall", monitor=monitor, warn=False) as builder:
        builder.measure(TINY[:1])
        builder.measure(TINY[1:2])
        assert builder.table.latency(TINY[1]).ms == pytest.approx(1.4e-3)
        assert sessions.held == 4
        builder.weigh([Model("m", tmp_path / "m.onnx", TINY[:1])])
    assert sessions.held == 7
    assert "whole models could only be measured while the device" in monitor.told
    assert "1 of 1 layers could only be measured while the device was slower than usual" in monitor.told


def test_whole_models_are_measured_again_when_the_gauge_was_slow(quick, tmp_path, sessions):
    model = Model("m", tmp_path / "m.onnx", TINY[:1])
    sessions.factors = [1.0, 1.5, 1.3, 1.0]
    with TableBuilder(quick, path=tmp_path / "t.json", clock="wall") as builder:
        (found,) = builder.weigh([model])
    assert found.wall_ms == pytest.approx(1e-3)
    assert sessions.held == 4


def test_a_table_without_a_gauge_counts_all_its_rounds():
    entry = Entry(wall_ns=(4000, 1000, 3000, 2000), cpu_ns=(None,) * 4)
    assert entry.milliseconds("wall", 500.0) == 1e-3
    assert not entry.disturbed(1.0)


def test_whole_models_calibrate_the_sum(quick, tmp_path):
    models = [
        Model(f"m{n}", write_onnx(tmp_path / f"{n}.onnx", n), [LayerConfig("conv", 3, n, 1, 8, 8, (3, 3))])
        for n in (4, 16, 64)
    ]
    with TableBuilder(quick, path=tmp_path / "t.json") as builder:
        found = builder.check(models)
    assert [one.model for one in found] == ["m4", "m16", "m64"]
    assert all(one.measured_ms > 0 and math.isfinite(one.error) for one in found)
    assert len(LatencyTable.load(tmp_path / "t.json").calibration.evidence) == 3


def test_a_device_that_disappears_keeps_what_was_measured(quick, tmp_path, measured_layers):
    path = tmp_path / "t.json"
    measured_layers.broken = {TINY[2]}
    with (
        pytest.raises(DeviceFailed, match=r"2 of 3 layers were measured and are kept in .*same command"),
        TableBuilder(quick, path=path) as builder,
    ):
        builder.measure(TINY)
    assert len(LatencyTable.load(path).entries) == 2
    measured_layers.broken, measured_layers.asked = None, []
    with TableBuilder(quick, path=path) as builder:
        assert builder.measure(TINY) == 1
    assert measured_layers.asked == [TINY[2]]


def test_ctrl_c_keeps_what_was_measured(quick, tmp_path, measured_layers, monkeypatch):
    def stop(builder, device, batch):
        if batch[0] == TINY[1]:
            raise KeyboardInterrupt
        return measured_layers(builder, device, batch)

    monkeypatch.setattr(TableBuilder, "_entries", stop)
    with pytest.raises(KeyboardInterrupt), TableBuilder(quick, path=tmp_path / "t.json") as builder:
        builder.measure(TINY)
    assert list(LatencyTable.load(tmp_path / "t.json").entries) == [TINY[0].key]


def test_a_table_of_other_threads_is_refused_before_measuring(quick, tmp_path, measured_layers):
    path = tmp_path / "t.json"
    with TableBuilder(quick, path=path) as builder:
        builder.measure(TINY[:1])
    other = quick_device(runtimes={"ort": {"threads": 2}})
    with pytest.raises(RequestError, match="threads is 1 there, 2 here"), TableBuilder(other, path=path):
        pass


def test_nothing_is_written_when_nothing_was_measured(quick, tmp_path):
    with TableBuilder(quick, path=tmp_path / "t.json"):
        pass
    assert not (tmp_path / "t.json").exists()


def test_a_missing_runtime_is_a_failure_of_the_device(quick):
    with pytest.raises(DeviceFailed, match="onnxruntime"):
        machine_of(quick, "ort", {"libraries": {}})


def test_an_undeclared_runtime_is_refused(quick):
    with pytest.raises(NotConfigured, match="openvino"):
        TableBuilder(quick, "openvino")


def test_a_board_that_nobody_configured_is_refused():
    with pytest.raises(NotConfigured), TableBuilder(load_device("jetson")):
        pass


def test_the_clock_follows_the_device():
    assert natural_clock(quick_device(), "ort") == "cpu"
    for options in ({"threads": 2}, {"spin": True}, {"providers": ["CUDAExecutionProvider"]}):
        assert natural_clock(quick_device(runtimes={"ort": options}), "ort") == "wall"


def test_the_default_place_names_device_runtime_and_threads():
    assert default_path(quick_device(), "ort").as_posix() == "latency/quick-ort-t1.json"


def test_batches_hold_few_weights_and_few_layers(monkeypatch):
    monkeypatch.setattr(latency_table, "WEIGHTS_AT_ONCE", 300)
    assert [len(batch) for batch in batches(TINY)] == [1, 1, 1]
    monkeypatch.setattr(latency_table, "WEIGHTS_AT_ONCE", 10**9)
    assert [len(batch) for batch in batches(TINY * 30)] == [32, 32, 26]
    assert list(batches([])) == []


@pytest.mark.parametrize("step", [1, 4, 8, 16, 32])
def test_staircases_are_found(step):
    layer = LayerConfig("conv", 64, 128, 1, 28, 28, (3, 3))
    counts = stair_counts(layer)
    draw = np.random.default_rng(0)
    times = [(0.2 + 0.01 * math.ceil(c / step) * step) * (1 + 0.005 * draw.standard_normal()) for c in counts]
    found = staircase(layer, "cout", counts, times)
    assert found.step == step
    assert found.unexplained < 0.02


def test_the_common_step_is_what_most_layers_show():
    def shown(step):
        return Staircase(layer="l", dimension="cout", counts=(1,), milliseconds=(1.0,), step=step, unexplained=0)

    assert common_step([]) == 1
    assert common_step(map(shown, [16, 1, 16])) == 16
    assert common_step(map(shown, [1, 8])) == 8


def test_staircases_are_looked_for_in_plain_wide_layers():
    narrow, deep = LayerConfig("conv", 8, 64), LayerConfig("conv", 64, 64, groups=64)
    wide = LayerConfig("conv", 64, 64, 1, 8, 8)
    assert costly([narrow, deep, wide, wide]) == [wide]
