"""A sparsity and a budget mean the same in every schedule, and what was reached stands beside what was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecr.core.errors import BudgetError
from edgecr.core.progress import Monitor
from edgecr.core.step_record import write_record
from edgecr.methods.prune.method import Prune
from edgecr.methods.prune.step import Pruning
from edgecr.models import architecture
from edgecr.report.gates.judge import Gate, judge
from edgecr.report.result import NOT_VERIFIED, Result, StepRow
from edgecr.report.step_rows import files_of, step_row, unreadable
from edgecr.subject import Subject
from edgecr.surgery.planning.record import NAME, Amount, PlanRecord, Width
from edgecr.surgery.scoring.pfp import group_sensitivity, pfp_keep
from edgecr.surgery.scoring.scores import ScoringInputs, allocators, scores
from edgecr.surgery.tracing.graph import trace_channels
from edgecr.training.sample import TrainingSample
from tests.methods.prune.test_schedules import MadeUp
from tests.workplace import context

RETRAIN = {"epochs": 1, "batch": 32, "lr": 0.02, "precision": "fp32"}
WHILE = {"kind": "exponential", "steps": 3, "every": 1, "retrain": RETRAIN | {"epochs": 2}}
SCHEDULES = {
    "at once": {"kind": "oneshot"},
    "rounds": {"kind": "iterative", "steps": 3, "retrain": RETRAIN},
    "slim end": WHILE,
    "slim each": WHILE | {"slim": "each"},
}


class Ear(Monitor):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


def subject() -> Subject:
    return Subject.create(architecture({"arch": "resnet20", "width": 0.25}), 3, (8, 8), seed=0)


def pruned(folder: Path, ear: Monitor | None = None, latencies: Any = None, **keys: Any) -> tuple[Subject, PlanRecord]:
    place = context(folder, monitor=ear or Monitor(), **({"latencies": latencies} if latencies else {}))
    return Prune.parse({"align": "off", "repair": False} | keys).apply(subject(), place), PlanRecord.load(folder)


def channels(record: PlanRecord, *, without: str = "nothing") -> tuple[int, int]:
    widths = [one for one in record.widths if one.group != without]
    return sum(one.before for one in widths), sum(one.after for one in widths)


@pytest.mark.parametrize("scope", ["layer", "global", "knapsack"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_sparsity_is_of_the_model_that_the_step_began_with(tmp_path: Path, schedule: str, scope: str) -> None:
    """Groups that reach their least in an early round once no longer counted: 28 % went where 40 % were asked for."""
    _, record = pruned(tmp_path, sparsity=0.4, min_fraction=0.5, scope=scope, when=SCHEDULES[schedule])
    before, after = channels(record)
    asked = before - round(0.4 * before)
    assert after == asked
    assert record.amounts[0] == Amount(figure="channels", before=before, after=after, budget=asked)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_aligned_counts_follow_the_same_request(tmp_path: Path, schedule: str) -> None:
    keys: dict[str, Any] = {"sparsity": 0.4, "min_fraction": 0.5, "scope": "layer", "align": "auto"}
    _, record = pruned(tmp_path, when=SCHEDULES[schedule], **keys)
    before, after = channels(record)
    assert 0.56 * before <= after <= 0.6 * before


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_is_kept_counts_neither_for_the_request_nor_for_what_was_reached(tmp_path: Path, schedule: str) -> None:
    keys: dict[str, Any] = {"sparsity": 0.4, "exclude": ["layer3.0.conv1"], "when": SCHEDULES[schedule]}
    _, record = pruned(tmp_path, **keys)
    assert Width(group="layer3.0.conv1", before=16, after=16) in record.widths
    before, after = channels(record, without="layer3.0.conv1")
    amount = record.amounts[0]
    assert (amount.before, amount.after, amount.budget) == (before, after, before - round(0.4 * before))
    assert after == amount.budget


@pytest.mark.parametrize("figure", ["params", "macs"])
def test_every_schedule_leaves_as_much_of_a_budget(tmp_path: Path, figure: str) -> None:
    for name, schedule in SCHEDULES.items():
        _, record = pruned(tmp_path / name, budget={figure: 0.5}, scope="layer", when=schedule)
        (amount,) = record.asked
        assert 0.47 * amount.before <= amount.after <= amount.budget == amount.before // 2


def test_what_is_short_of_the_request_is_a_warning_and_fails_a_strict_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Amount(figure="measured latency", before=100_000, after=80_000, budget=70_000)
    monkeypatch.setattr(Pruning, "_whole", lambda *_: measured)
    ear, keys = Ear(), {"budget": {"latency": 0.7}, "scope": "knapsack"}
    pruned(tmp_path / "loose", ear, MadeUp(), **keys)
    (warning,) = ear.warned
    assert warning == f"More than 2% short of what was asked for: {measured}."
    with pytest.raises(BudgetError, match=r"measured latency .* allowed.*`strict`"):
        pruned(tmp_path / "strict", Ear(), MadeUp(), strict=True, **keys)
    assert PlanRecord.load(tmp_path / "strict").asked == (measured,)


def test_a_request_that_is_met_passes_a_strict_step_without_a_word(tmp_path: Path) -> None:
    ear = Ear()
    pruned(tmp_path, ear, sparsity=0.4, strict=True)
    assert not ear.warned


@pytest.mark.parametrize(("after", "short"), [(60, False), (61, False), (62, True), (100, True)])
def test_short_is_over_two_percent_of_what_may_remain(after: int, short: bool) -> None:
    assert Amount(figure="channels", before=100, after=after, budget=60).short == short
    assert not Amount(figure="channels", before=100, after=after).short


@pytest.mark.parametrize("after", [-55, 0, 65])
def test_a_plan_with_impossible_widths_cannot_be_recorded(after: int) -> None:
    with pytest.raises(ValueError, match=r"after|grow"):
        Width.parse({"group": "a", "before": 64, "after": after})


def row(folder: Path, **facts: Any) -> Any:
    return step_row("prune", "{}", folder, facts)


def test_the_report_says_what_was_asked_and_reached(tmp_path: Path) -> None:
    pruned(tmp_path, sparsity=0.4)
    amount, found = PlanRecord.load(tmp_path).amounts[0], row(tmp_path)
    assert found.budgets == {"channels": (amount.budget, amount.after)}
    assert found.facts["reached"] == str(amount)
    assert f"{amount.budget} allowed" in found.facts["reached"]
    assert "short of what was asked for" not in found.facts


def judged(rows: list[Any], ratio: float = 1.0) -> tuple[str, str]:
    (gate,) = judge({"budget": Gate(ratio=ratio)}, Result("x", "x", steps=rows))
    return gate.status.value, gate.text


def recorded(folder: Path, *amounts: Amount) -> Any:
    write_record(folder, NAME, PlanRecord(amounts=amounts))
    return row(folder)


def test_a_gate_holds_where_the_budget_does(tmp_path: Path) -> None:
    met = Amount(figure="params", before=100, after=50, budget=50)
    missed = Amount(figure="channels", before=100, after=63, budget=60)
    free = Amount(figure="macs", before=100, after=90)
    one, other = recorded(tmp_path / "1", met, free), recorded(tmp_path / "2", missed)
    assert other.facts["short of what was asked for"] == "channels"
    assert judged([one])[0] == "PASS"
    assert judged([one, other]) == ("FAIL", "ratio 1.05x on channels after prune (worst of 2)")
    assert judged([one, other], 1.05)[0] == "PASS"
    assert judged([recorded(tmp_path / "3", free)]) == ("INCOMPLETE", "no step was given a sparsity or a budget")


def test_a_gate_is_incomplete_where_a_step_is_damaged(tmp_path: Path) -> None:
    """The step that is left may have met its budget; the damaged one may not."""
    met = recorded(tmp_path / "1", Amount(figure="params", before=100, after=50, budget=50))
    status, text = judged([met, StepRow("prune", facts={NOT_VERIFIED: "plan.json is missing"})])
    assert status == "INCOMPLETE"
    assert "what prune left cannot be told: plan.json is missing" in text


def test_the_measured_latency_is_judged_in_place_of_the_tables(tmp_path: Path) -> None:
    table = Amount(figure="latency", before=100, after=60, budget=50)
    whole = Amount(figure="measured latency", before=100, after=50, budget=50)
    assert list(recorded(tmp_path / "1", table, whole).budgets) == ["measured latency"]
    assert list(recorded(tmp_path / "2", table).budgets) == ["latency"]


def test_a_result_keeps_budgets_through_its_file(tmp_path: Path) -> None:
    pruned(tmp_path, sparsity=0.4)
    result = Result("x", "x", steps=[row(tmp_path)])
    assert Result.parse(json.loads(json.dumps(result.plain()))) == result


@pytest.mark.parametrize("schedule", ["rounds", "slim end"])
def test_pfp_in_every_layer_meets_its_budget(tmp_path: Path, schedule: str) -> None:
    _, record = pruned(tmp_path, sparsity=0.4, score="pfp", scope="layer", when=SCHEDULES[schedule])
    assert record.amounts[0].after == record.amounts[0].budget


def test_pfp_in_every_layer_lets_all_err_by_the_same_factor(tmp_path: Path) -> None:
    """The channels left are those that the bound allots at some error, but for a whole budget's rounding."""
    model = subject()
    evidence = ScoringInputs(model.module, batches=TrainingSample(context(tmp_path).data, 7), most=35)
    graph = trace_channels(model.module, model.input_shape)
    readers = [group_sensitivity(group, evidence.sensitivities) for group in graph.groups]
    _, record = pruned(tmp_path, sparsity=0.5, score="pfp", scope="layer")
    kept = np.array([one.after for one in record.widths])
    widths = np.array([one.before for one in record.widths])
    errors = np.logspace(-2, 6, 400)
    allotted = [np.array([pfp_keep(reader, error) for reader in readers]) for error in errors]
    assert min(abs(kept - one).sum() for one in allotted) <= len(kept) / 2
    assert abs(kept - widths / 2).max() > 1, "the same fraction everywhere is not what PFP does"
    assert set(allocators) <= set(scores.names())


def test_what_a_look_with_pfp_costs_is_told(tmp_path: Path) -> None:
    ear = Ear()
    pruned(tmp_path, ear, sparsity=0.4, score="pfp")
    assert ear.said[0].startswith("Score pfp looks at 35 training images one by one")
    assert "billion operations" in ear.said[0]


def test_the_plan_of_the_first_edition_is_still_shown(tmp_path: Path) -> None:
    amounts = [{"figure": "channels", "before": 100, "after": 63, "budget": 60}]
    widths = [{"group": "conv1", "before": 16, "after": 8}]
    plan = {"schema_version": 1, "device": "", "widths": widths, "amounts": amounts, "estimated": []}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert files_of(tmp_path, Prune.records) == ["plan.json"]
    found = row(tmp_path)
    assert found.budgets == {"channels": (60, 63)}
    assert [one.rows for one in found.records] == [{"conv1": (16, 8)}]
    (tmp_path / "plan.json").write_text("{}")
    assert [file for file, _ in unreadable(tmp_path, ["plan.json"])] == ["plan.json"]
