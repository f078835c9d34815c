"""Pruning in rounds and while training: budgets, physical removal, and exact resumption."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from edgecr.core.errors import BudgetError, RequestError
from edgecr.core.files import read_json
from edgecr.core.progress import Monitor
from edgecr.latency import Entry, LatencyTable, Machine, Staircase
from edgecr.methods.prune.latencies import Latencies
from edgecr.methods.prune.method import Prune
from edgecr.methods.prune.step import Pruning
from edgecr.surgery.counters import count
from edgecr.surgery.planning.layers import configurations
from edgecr.surgery.planning.record import PlanRecord
from edgecr.training.context import DeviceLatencies
from tests.workplace import context, subject

RETRAIN = {"epochs": 2, "batch": 16, "lr": 0.02, "precision": "fp32", "checkpoint_s": 1e-9}
LATENCY = {"budget": {"latency": 0.7}, "score": "taylor_bn", "scope": "knapsack"}
WHILE = {"kind": "exponential", "steps": 3, "every": 2, "retrain": RETRAIN}
ROUNDS = {"kind": "iterative", "steps": 2, "retrain": RETRAIN | {"epochs": 1}}


class MadeUp(DeviceLatencies):
    """A device whose latency is its arithmetic plus a call; it notes how often it was asked."""

    def __init__(self, overhead_ms: float = 0.0) -> None:
        self.asked, self.overhead_ms = 0, overhead_ms

    def table(self, device, subject, batch, target="onnx"):
        machine = Machine(device=device, processor="none", runtime="ort", version="0", threads=1)
        return LatencyTable(machine=machine, clock="wall")

    def measured(self, device, layers, target="onnx"):
        self.asked += 1
        entries = {one.key: Entry(wall_ns=(1000 + one.macs,), cpu_ns=(None,)) for one in layers}
        return self.table(device, None, 1, target).extended(entries)

    def whole(self, device, subjects, batch, target="onnx"):
        self.asked += 1
        each = [configurations(one.module, one.input_shape, batch) for one in subjects]
        return [self.overhead_ms + sum(1000 + layer.macs for layer in layers) / 1e6 for layers in each]


def prune(folder, latencies=None, **keys: Any):
    model = subject()
    return Prune.parse({"align": "off"} | keys).apply(model, context(folder, latencies=latencies or MadeUp()))


def same(first, second):
    one, other = first.module.state_dict(), second.module.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


CASES = {
    "halp": LATENCY | {"when": WHILE},
    "soft": {"budget": {"macs": 0.6}, "score": "taylor_in", "when": WHILE | {"masks": "soft"}},
    "soft, flat": {
        "budget": {"params": 0.6},
        "scope": "knapsack",
        "when": WHILE | {"masks": "soft", "retrain": RETRAIN | {"sharpness": "adasap"}},
    },
    "slim each": {"budget": {"macs": 0.5}, "score": "taylor", "when": WHILE | {"slim": "each"}},
    "rounds": {"budget": {"params": 0.6}, "when": ROUNDS},
}


@pytest.mark.parametrize("name", CASES)
def test_the_budget_is_met_and_the_record_rebuilds_the_model(tmp_path, name) -> None:
    keys = CASES[name]
    result = prune(tmp_path, **keys)
    ((figure, share),) = keys["budget"].items()
    plan = PlanRecord.load(tmp_path)
    amount = next(one for one in plan.amounts if one.figure == figure)
    allowed = math.floor(share * amount.before)
    assert amount.after <= amount.budget
    assert amount.budget == allowed or (figure == "latency" and 0.9 * allowed < amount.budget < allowed)
    assert sum(one.after for one in plan.widths) < sum(one.before for one in plan.widths)
    shapes = {key: tensor.shape for key, tensor in result.skeleton().state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in result.module.state_dict().items()}
    if figure != "latency":
        assert getattr(count(result.module, result.input_shape), figure) == amount.after


@pytest.mark.parametrize("latency", [0.7, "0.13 ms"])
@pytest.mark.parametrize("overhead_ms", [0.02, -0.02])
def test_the_whole_model_keeps_the_latency_that_was_asked_for(tmp_path, latency, overhead_ms) -> None:
    prune(tmp_path, MadeUp(overhead_ms), budget={"latency": latency}, scope="knapsack")
    table, whole = PlanRecord.load(tmp_path).amounts[-2:]
    assert (table.figure, whole.figure) == ("latency", "measured latency")
    wanted = 0.13e6 if isinstance(latency, str) else latency * whole.before
    assert whole.budget == pytest.approx(wanted, abs=1)
    assert 0.85 * wanted < whole.after <= wanted
    assert abs(whole.after - table.after) <= abs(overhead_ms * 1e6) + 2


class Stepping(MadeUp):
    """A device whose table shows a staircase; it notes the target of all that it is asked."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.targets, self.step = set[str](), step

    def align(self, device, target="onnx"):
        self.targets.add(target)
        return 2

    def table(self, device, subject, batch, target="onnx"):
        self.targets.add(target)
        shown = Staircase(layer="l", dimension="cout", counts=(1,), milliseconds=(1.0,), step=self.step, unexplained=0)
        return super().table(device, subject, batch).with_staircases([shown])

    def measured(self, device, layers, target="onnx"):
        self.targets.add(target)
        return super().measured(device, layers, target)

    def whole(self, device, subjects, batch, target="onnx"):
        self.targets.add(target)
        return super().whole(device, subjects, batch, target)


def test_a_latency_is_that_of_the_targets_files_from_the_table_to_whole_models(tmp_path) -> None:
    bench = Stepping(step=4)
    prune(tmp_path, bench, budget={"latency": 0.6}, target="onnx-int8", align="auto")
    assert bench.targets == {"onnx-int8"}
    assert (PlanRecord.load(tmp_path).device, PlanRecord.load(tmp_path).target) == ("cpu", "onnx-int8")


@pytest.mark.parametrize(("step", "keys", "block"), [(4, LATENCY, 4), (1, LATENCY, 2), (4, {"sparsity": 0.5}, 2)])
def test_automatic_alignment_follows_the_staircase_of_the_table_that_the_plan_rests_on(tmp_path, step, keys, block):
    method = Prune.parse({"align": "auto"} | keys)
    limits = Pruning(method, subject(), context(tmp_path, latencies=Stepping(step))).limits
    assert limits.multiples[0] == block


class Hearing(Monitor):
    """Keeps the warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.parametrize("rounds", [1, 12])
def test_a_plan_that_rests_on_estimates_says_so_in_its_record_and_aloud(tmp_path, monkeypatch, rounds) -> None:
    monkeypatch.setattr("edgecr.surgery.planning.latency.MOST_ROUNDS", rounds)
    ear, bench = Hearing(), MadeUp()
    model = subject()
    layers = configurations(model.module, model.input_shape, 1)
    ends = [replace(one, cin=i, cout=o) for one in layers for i in (1, one.cin) for o in (1, one.cout)]
    table = bench.measured("made-up", ends)
    monkeypatch.setattr(bench, "table", lambda device, subject, batch, target="onnx": table)
    where = replace(context(tmp_path, latencies=bench), monitor=ear)
    Prune.parse({"align": "off", "scope": "knapsack", "budget": {"latency": 0.7}}).apply(model, where)
    plan = PlanRecord.load(tmp_path)
    told = [text for text in ear.warnings if "rests on estimates" in text]
    assert bool(plan.estimated) == bool(told) == (rounds == 1)
    assert set(plan.estimated).isdisjoint(table.entries)


class Overcharged(MadeUp):
    """A device on which lone layers pay for images that stay where they are inside a model."""

    def __init__(self, each: int = 8) -> None:
        super().__init__()
        self.each = each

    def measured(self, device, layers, target="onnx"):
        self.asked += 1
        times = {one.key: 1000 + one.macs + self.each * one.values for one in layers}
        entries = {key: Entry(wall_ns=(ns,), cpu_ns=(None,)) for key, ns in times.items()}
        return self.table(device, None, 1, target).extended(entries)


def test_plans_learn_from_whole_models_what_lone_layers_pay_too_much(tmp_path, monkeypatch) -> None:
    keys: dict[str, Any] = {"budget": {"latency": 0.4}, "scope": "knapsack", "exclude": ["conv1", "layer?.0.conv2"]}

    def error(folder):
        prune(folder, Overcharged(), **keys)
        table, whole = PlanRecord.load(folder).amounts[-2:]
        assert 0.9 * whole.budget < whole.after <= whole.budget
        return table.after / table.before / (whole.after / whole.before) - 1

    assert abs(error(tmp_path / "taught")) < 0.01
    monkeypatch.setattr(Latencies, "learnt", lambda _self, _module, _whole, lessons: lessons)
    assert error(tmp_path / "untaught") > 0.1


class Quicker(MadeUp):
    """A device on which slimmed models are a little faster than the table promises: the first plan will do."""

    def whole(self, device, subjects, batch, target="onnx"):
        dense, slim = super().whole(device, subjects, batch)
        return [dense, 0.98 * slim]


def test_steps_of_a_schedule_plan_with_the_lessons_of_the_checked_plan(tmp_path, monkeypatch) -> None:
    known, plan = [], Latencies.plan

    def noted(self, planner, choose, lessons):
        known.append(lessons)
        return plan(self, planner, choose, lessons)

    monkeypatch.setattr(Latencies, "plan", noted)
    prune(tmp_path, Quicker(), budget={"latency": 0.7}, scope="knapsack", when=WHILE)
    assert len(known) > 1
    assert set(known) == {()}, "the lesson of the plan itself would move what its own steps may leave"


def test_a_plan_that_only_the_table_calls_too_slow_is_measured(tmp_path) -> None:
    keys: dict[str, Any] = {"budget": {"latency": 0.35}, "scope": "knapsack", "exclude": ["conv1", "layer?.0.conv2"]}
    prune(tmp_path, Overcharged(20), **keys)
    whole = PlanRecord.load(tmp_path).amounts[-1]
    assert 0.85 * whole.budget < whole.after <= whole.budget


def test_a_latency_that_the_whole_model_cannot_keep_is_refused(tmp_path) -> None:
    with pytest.raises(BudgetError, match=r"0\.06 ms may remain, but on cpu the whole model still takes 0\.0\d+ ms"):
        prune(tmp_path, MadeUp(0.04), budget={"latency": "0.06 ms"}, scope="knapsack")


class Disturbed(MadeUp):
    """A device that misjudges plans: the first one by a bit, all others tenfold."""

    first: list[float] | None = None

    def whole(self, device, subjects, batch, target="onnx"):
        dense, slim = super().whole(device, subjects, batch)
        self.first = self.first or [slim]
        return [dense, slim * (0.85 if slim in self.first else 10.0)]


def test_a_plan_that_keeps_the_latency_stays_when_a_disturbed_measurement_leaves_no_stricter_one(tmp_path) -> None:
    prune(tmp_path, Disturbed(), budget={"latency": 0.7}, scope="knapsack")
    whole = PlanRecord.load(tmp_path).amounts[-1]
    assert whole.after <= 0.7 * whole.before


class Shared(MadeUp):
    """A device on which something else runs in every other session."""

    busy = False

    def whole(self, device, subjects, batch, target="onnx"):
        self.busy = not self.busy
        dense, slim = super().whole(device, subjects, batch)
        return [1.2 * dense, 2.0 * slim] if self.busy else [dense, slim]


def test_sessions_in_which_the_unpruned_model_is_slow_do_not_count(tmp_path) -> None:
    keys: dict[str, Any] = {"budget": {"latency": 0.7}, "scope": "knapsack"}
    assert same(prune(tmp_path / "shared", Shared(), **keys), prune(tmp_path / "alone", MadeUp(), **keys))
    assert PlanRecord.load(tmp_path / "shared") == PlanRecord.load(tmp_path / "alone")


class Slower(MadeUp):
    """A device that something slows down for good after the first plan, which took much less than was asked for."""

    known: int | None = None

    def whole(self, device, subjects, batch, target="onnx"):
        dense, slim = super().whole(device, subjects, batch)
        self.known = self.known or round(slim * 1e6)
        return [dense, 0.7 * slim] if self.known == round(slim * 1e6) else [1.1 * dense, 1.5 * slim]


def test_sessions_in_which_the_device_was_slow_teach_nothing(tmp_path, monkeypatch) -> None:
    taught, learn = [], Latencies.learnt

    def noted(self, module, whole, lessons):
        known = learn(self, module, whole, lessons)
        taught.extend(lesson.model for lesson in known if lesson not in lessons and lesson.model != "unpruned")
        return known

    monkeypatch.setattr(Latencies, "learnt", noted)
    prune(tmp_path, Slower(), budget={"latency": 0.7}, scope="knapsack")
    measured = read_json(tmp_path / "whole-models.json")
    assert len(measured) > 1
    assert set(taught) == {key for key, (dense, _, best) in measured.items() if dense == best}
    assert len(set(taught)) == 1


class Stop(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_pruning_that_is_stopped_ends_in_the_same_bits(tmp_path, name, monkeypatch) -> None:
    from edgecr.training.session import TrainingState

    undisturbed = prune(tmp_path / "undisturbed", **CASES[name])
    step, left = TrainingState.step, [5]

    def until(self, images, labels):
        left[0] -= 1
        if left[0] < 0:
            raise Stop
        step(self, images, labels)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "step", until)
        with pytest.raises(Stop):
            prune(tmp_path / "stopped", **CASES[name])
    bench = MadeUp()
    assert same(prune(tmp_path / "stopped", bench, **CASES[name]), undisturbed)
    assert PlanRecord.load(tmp_path / "stopped") == PlanRecord.load(tmp_path / "undisturbed")


def test_a_schedule_longer_than_its_training_is_refused(tmp_path) -> None:
    with pytest.raises(RequestError, match=r"needs 300 updates, but the training has"):
        prune(tmp_path, sparsity=0.3, when=WHILE | {"steps": 100, "every": 3})


@pytest.mark.parametrize(
    "options",
    [
        {"budget": {"latency": "3"}},
        {"budget": {"latency": "fast"}},
        {"budget": {"size": "5 Mb"}},
        {"budget": {"size": 5}},
        {"budget": {"params": 0.5, "macs": 0.5}, "scope": "knapsack"},
        {"sparsity": 0.5, "min_fraction": 0.6, "max_fraction": 0.5},
        {"sparsity": 0.5, "when": {"kind": "sometimes"}},
        {"sparsity": 0.5, "when": {"kind": "exponential", "retrain": {"keep": "best"}}},
        {"sparsity": 0.5, "when": {"kind": "exponential", "start": 10}},
        {"sparsity": 0.5, "when": {"kind": "exponential", "masks": "soft", "slim": "each"}},
        {"sparsity": 0.5, "score": "taylor_bn", "when": {"kind": "exponential", "masks": "soft"}},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Prune.parse(options)


def test_units() -> None:
    budget = Prune.parse({"budget": {"size": "5 MB", "latency": "0.8 ms"}}).budget
    assert budget is not None
    assert budget.shares() == {"size": 5_000_000, "latency": 800_000}
