"""Plans by measured loss, as a step: an idle block is dropped, the rest is cut, repaired and proven in the file."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgecr.core.errors import BudgetError, UnsupportedModel
from edgecr.core.progress import Bar, Monitor
from edgecr.data.views import LearningData, ProofData
from edgecr.exporters import exporters, load_target
from edgecr.methods.prune import Prune, appraisal
from edgecr.methods.prune.appraisal import Appraisal, StoredSums
from edgecr.subject import Subject
from edgecr.surgery.changes import BlockDrop, ChannelCut
from edgecr.surgery.counters import count
from edgecr.surgery.planning.cost import Cost
from edgecr.surgery.planning.plan import Planner
from edgecr.surgery.planning.record import PlanRecord
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.repair.options import RepairOptions
from edgecr.surgery.repair.values import WidthValues
from edgecr.surgery.tracing.graph import trace_channels
from tests.surgery.conftest import disturbed
from tests.workplace import context, dataset, subject


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of values, of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/edgecr/values"


def with_an_idle_block(name="layer2.1"):
    found = subject()
    disturbed(found.module)
    with torch.no_grad():  # it adds next to nothing to the stream
        found.module.get_submodule(name).bn2.weight.mul_(1e-4)
        found.module.get_submodule(name).bn2.bias.zero_()
    return found


def pruned(folder, **options):
    folder.mkdir()
    method = Prune.parse({"scope": "measured", "align": "off", "budget": {"macs": 0.6}} | options)
    given = with_an_idle_block()
    return given, method.apply(given, context(folder, dataset(train=200)))


def test_an_idle_block_goes_and_the_file_shows_it(tmp_path):
    given, found = pruned(tmp_path / "step", drop="blocks")
    assert "layer2.1" in [change.block for change in found.surgery if isinstance(change, BlockDrop)]
    assert isinstance(found.surgery[-1], ChannelCut)
    dense, slim = (count(one.module, one.input_shape) for one in (given, found))
    assert slim.macs <= 0.6 * dense.macs
    found.save(tmp_path / "subject")
    again = Subject.load(tmp_path / "subject")
    assert all(
        torch.equal(own, other)
        for own, other in zip(again.module.state_dict().values(), found.module.state_dict().values())
    )
    proof = ProofData.of(dataset(train=200))
    artifact = exporters.get("onnx")().export(again, load_target("onnx"), proof, tmp_path / "export", {})
    layers = [layer["name"] for layer in artifact.receipt["layers"]]
    assert not [name for name in layers if name.startswith("layer2.1.")]
    assert artifact.receipt["file"]["macs"] == slim.macs


def test_without_drops_every_block_stays(tmp_path):
    _, found = pruned(tmp_path / "step")
    assert [change.tag for change in found.surgery] == ["cut"]


def test_values_are_measured_once_for_a_model_and_its_inputs(tmp_path, cache):
    pruned(tmp_path / "one")
    pruned(tmp_path / "two", budget={"macs": 0.8})
    assert len(list(cache.glob("*.json"))) == 1
    data = LearningData.of(dataset(train=200))
    other = replace(data, preprocessing=replace(data.preprocessing, mean=(0.0, 0.0, 0.0)))
    (tmp_path / "three").mkdir()
    where = replace(context(tmp_path / "three", dataset(train=200)), data=other)
    Prune.parse({"scope": "measured", "align": "off", "budget": {"macs": 0.6}}).apply(with_an_idle_block(), where)
    assert len(list(cache.glob("*.json"))) == 2


def test_a_damaged_file_of_values_is_measured_again(tmp_path, cache):
    _, first = pruned(tmp_path / "one", align=4)
    (file,) = cache.glob("*.json")
    file.write_text('{"schema": 1, "losses": [[1]]}')
    _, second = pruned(tmp_path / "two", align=4)
    assert first.surgery == second.surgery
    assert "[[1]]" not in file.read_text()


def test_other_code_with_the_same_tensors_is_measured_anew(tmp_path, cache):
    for number, slope in enumerate((0.0, 0.5)):
        (tmp_path / str(number)).mkdir()
        given = with_an_idle_block()
        given.module.register_forward_hook(lambda _, given, out, slope=slope: out + slope * out.square())
        where = context(tmp_path / str(number), dataset(train=200))
        Prune.parse({"scope": "measured", "align": 4, "budget": {"macs": 0.6}}).apply(given, where)
    assert len(list(cache.glob("*.json"))) == 2


@pytest.mark.parametrize("name", ["linear.bias", "bn1.running_var"])
def test_a_model_whose_numbers_are_not_finite_is_refused_before_anything_is_measured(tmp_path, monkeypatch, name):
    measured, given = counted(monkeypatch, "losses"), with_an_idle_block()
    given.module.state_dict()[name].fill_(float("nan"))
    with pytest.raises(UnsupportedModel, match="not finite"):
        Prune.parse({"scope": "measured", "align": 4, "budget": {"macs": 0.6}}).apply(
            given, context(tmp_path, dataset(train=200))
        )
    assert not measured


def counted(monkeypatch, name):
    """A list that grows each time values of widths or of blocks are measured."""
    calls, measure = [], getattr(WidthValues, name)
    monkeypatch.setattr(WidthValues, name, lambda self, *given: (calls.append(1), measure(self, *given))[1])
    return calls


def test_blocks_are_measured_once_and_a_second_budget_rests_on_the_same_losses(tmp_path, monkeypatch):
    measured = counted(monkeypatch, "drop_losses")
    _, first = pruned(tmp_path / "one", drop="blocks", align=4)
    _, second = pruned(tmp_path / "two", drop="blocks", align=4, budget={"macs": 0.8})
    assert len(measured) == 1
    assert first.surgery != second.surgery
    pruned(tmp_path / "three", drop="blocks", align=4, repair={"images": 80})
    assert len(measured) == 2


@pytest.mark.parametrize(
    "losses", ["", "[]", "3", "[[1, 2]]", "[0.0]", "[[[0, 1]]]", "[[0, -1]]", "[[0, NaN]]", "[[0, 1" + "0" * 400 + "]]"]
)
def test_losses_that_fit_nothing_are_none(tmp_path, losses):
    (tmp_path / "file.json").write_text(f'{{"schema": 1, "losses": {losses}}}')
    good = losses == "[[1, 2]]"
    assert (appraisal._read(tmp_path / "file.json", [np.array([3, 4])]) is not None) == good


def refusal(folder, **options):
    with pytest.raises(BudgetError) as refused:
        pruned(folder, budget={"macs": 10}, align=4, **options)
    found = re.search(
        r"macs: 10 may remain, ([\d,]+) is the least \(([\d.]+)% of ([\d,]+)\), at a predicted loss of ([\d.]+) "
        r"\(mean divergence from the model before\)\. Ask for less removal",
        str(refused.value),
    )
    assert found, refused.value
    least, share, dense, loss = (float(text.replace(",", "")) for text in found.groups())
    assert share == pytest.approx(100 * least / dense, abs=0.05)
    return str(refused.value), least, dense, loss


def test_an_unreachable_budget_names_the_best_figure_and_what_it_costs(tmp_path):
    told, least, dense, loss = refusal(tmp_path / "widths")
    assert "by removing channels:" in told
    whole = with_an_idle_block()
    assert dense == count(whole.module, whole.input_shape).macs
    assert loss > 0
    told, fewer, same, higher = refusal(tmp_path / "blocks", drop="blocks")
    assert re.search(r"by removing channels and \d+ residual blocks:", told)
    assert (fewer < least, same, higher > loss) == (True, dense, True)
    pruned(tmp_path / "reached", align=4, budget={"macs": int(least)})  # the named figure can be asked for


@pytest.mark.parametrize("allowed", [np.arange(1, 65), np.arange(8, 1281, 8), np.array([16]), np.array([0, 8, 16])])
def test_the_measured_widths_are_some_of_the_allowed_ones_with_both_ends(allowed):
    grid = appraisal._grid(allowed)
    assert set(grid) <= set(allowed)
    assert (grid[0], grid[-1]) == (allowed[0], allowed[-1])
    assert len(grid) == min(len(allowed), appraisal.GRID)
    assert (np.diff(grid) > 0).all()


def test_values_between_measured_widths_lie_on_the_line_and_never_fall_with_the_width():
    allowed, measured = np.arange(1, 11), np.array([1, 4, 10])
    (found,) = appraisal._between([np.array([9.0, 3.0, 0.0])], [measured], [allowed])
    assert found[[0, 3, 9]].tolist() == [-9, -3, 0]
    assert found[1] == -7
    assert (np.diff(found) >= 0).all()


def test_values_of_repaired_widths_need_a_repair():
    with pytest.raises(ValueError, match="leave repair: false out"):
        Prune.parse({"scope": "measured", "budget": {"macs": 0.5}, "repair": False})


class Ear(Monitor):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def test_blocks_alone_meet_a_budget_and_channels_count_against_the_whole_model(tmp_path):
    given, ear = with_an_idle_block(), Ear()
    keys = {"scope": "measured", "drop": "blocks", "budget": {"macs": 0.95}}
    where = context(tmp_path, dataset(train=140), monitor=ear)
    found = Prune.parse(keys | {"min_fraction": 1.0}).apply(given, where)
    plan = PlanRecord.load(tmp_path)
    assert plan.dropped == tuple(change.block for change in found.surgery if isinstance(change, BlockDrop))
    assert "layer2.1" in plan.dropped
    assert not [one for one in plan.amounts if one.figure == "channels"]
    told = next(line for line in ear.said if line.startswith("Removed 0.0%"))
    assert f"dropped blocks {' and '.join(plan.dropped)}" in told
    assert f"predicted loss of {plan.loss:.3g}" in told

    Prune.parse(keys | {"align": "off", "min_channels": 15}).apply(given, where)
    plan = PlanRecord.load(tmp_path)
    (channels,) = (one for one in plan.amounts if one.figure == "channels")
    graph = trace_channels(given.module, given.input_shape)
    assert channels.before == sum(group.width for group in graph.groups if group.width > 15)
    assert channels.after == sum(one.after for one in plan.widths if one.before > 15)
    assert len(plan.dropped) > 0


@pytest.mark.parametrize(
    "keys", [{"scope": "measured", "budget": {"macs": 0.5}}, {"scope": "knapsack", "budget": {"latency": 0.5}}]
)
def test_that_no_channel_may_go_is_said_before_anything_is_measured(tmp_path, monkeypatch, keys):
    measured = counted(monkeypatch, "losses")
    method = Prune.parse({"min_fraction": 0.8, "align": 16} | keys)
    with pytest.raises(BudgetError, match="No channel may go"):
        method.apply(subject(), context(tmp_path, dataset(train=140)))  # whose latencies nobody can measure
    assert not measured


class Impatient(Monitor, Bar):
    """Ends the process at the so-manieth measurement."""

    def __init__(self, measurements=10_000) -> None:
        self.left, self.starts = measurements, []

    def bar(self, label, total, done=0):
        self.starts.append((total, done))
        return self

    def advance(self, amount=1, **facts):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("ask", [Appraisal.__call__, Appraisal.without_blocks])
def test_a_killed_measurement_goes_on_from_its_last_chunk_of_images_to_the_same_bits(tmp_path, cache, monkeypatch, ask):
    monkeypatch.setattr("edgecr.methods.repair.step.CHUNK", 25)
    given = with_an_idle_block()
    graph = trace_channels(given.module, given.input_shape)
    scores = [np.arange(group.width, dtype=float) for group in graph.groups]
    planner = Planner(graph, Cost(given.module, graph), scores, Limits(align=8))

    def values(monitor):
        where = context(tmp_path, dataset(train=200), monitor=monitor)
        return ask(Appraisal(given, RepairOptions(images=100, positions=1), where), planner)

    values(whole := Impatient())
    (file,) = cache.glob("*.json")
    expected, ((total, start),) = file.read_text(), whole.starts
    assert (start, total % 4) == (0, 0)
    file.unlink()
    with pytest.raises(KeyboardInterrupt):
        values(Impatient(total // 2 + 1))  # in the third chunk of four
    values(again := Impatient())
    assert again.starts == [(total, total // 2)]
    assert 10_000 - again.left == total // 2
    assert file.read_text() == expected


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"schema": 1, "chunks": 3, "done": 0, "sums": [1, 2]}',
        '{"schema": 1, "chunks": 3, "done": 4, "sums": [1, 2]}',
        '{"schema": 1, "chunks": 4, "done": 2, "sums": [1, 2]}',
        '{"schema": 1, "chunks": 3, "done": 2, "sums": [1]}',
        '{"schema": 1, "chunks": 3, "done": 2, "sums": [1, NaN]}',
    ],
)
def test_sums_that_do_not_fit_are_begun_anew(tmp_path, text):
    (tmp_path / "file.json").write_text(text)
    done, sums = StoredSums(tmp_path / "file.json").known(2, 3)
    assert (done, sums.tolist()) == (0, [0, 0])
