"""Rounds of pruning mean the same groups from the first to the last, on networks that are not friendly."""

from __future__ import annotations

from typing import Any

import pytest

from edgecr.methods.prune.method import Prune
from edgecr.models import architecture
from edgecr.subject import Subject
from edgecr.surgery.planning.record import PlanRecord
from edgecr.training.context import Execution
from tests.workplace import context

RETRAIN = {"epochs": 1, "batch": 16, "lr": 0.02, "precision": "fp32"}
ROUNDS = {"kind": "iterative", "steps": 3, "retrain": RETRAIN}
EACH = {"kind": "exponential", "steps": 3, "every": 1, "slim": "each", "retrain": RETRAIN}
END = EACH | {"slim": "end"}
SOFT = END | {"masks": "soft"}


def widths(folder: Any, network: str, **keys: Any) -> dict[str, tuple[int, int]]:
    """Channels of each group before and after, by the record; every tensor must agree with what the record says."""
    declared = architecture({"arch": f"tests.surgery.networks:{network}"})
    subject = Subject.create(declared, 3, (8, 8), 0, allow_code=True)
    place = context(folder, execution=Execution(allow_code=True))
    result = Prune.parse({"align": "off", "score": "l2"} | keys).apply(subject, place)
    again = result.skeleton(allow_code=True)
    again.load_state_dict(result.module.state_dict())
    return {one.group: (one.before, one.after) for one in PlanRecord.load(folder).widths}


@pytest.mark.parametrize("schedule", [ROUNDS, EACH], ids=["rounds", "each"])
def test_groups_cut_by_the_group_are_so_in_every_round(tmp_path: Any, schedule: dict[str, Any]) -> None:
    found = widths(tmp_path, "WideGroups", sparsity=0.85, scope="global", when=schedule)
    assert found == {"stem": (8, 1)}


@pytest.mark.parametrize("schedule", [ROUNDS, EACH], ids=["rounds", "each"])
def test_rounds_go_on_without_what_the_code_fixes(tmp_path: Any, schedule: dict[str, Any]) -> None:
    found = widths(tmp_path, "HardReshape", sparsity=0.5, scope="global", when=schedule)
    assert {name: before for name, (before, _) in found.items()} == {"one": 6, "three": 12}
    assert sum(after for _, after in found.values()) == 9


@pytest.mark.parametrize("schedule", [ROUNDS, EACH], ids=["rounds", "each"])
@pytest.mark.parametrize("network", ["Blurred", "Learnt", "Recurrent"])
@pytest.mark.parametrize("budget", [{"macs": 0.7}, {"params": 0.8}])
def test_budgets_hold_through_rounds(
    tmp_path: Any, network: str, schedule: dict[str, Any], budget: dict[str, float]
) -> None:
    found = widths(tmp_path, network, budget=budget, scope="global", when=schedule)
    amounts = {one.figure: one for one in PlanRecord.load(tmp_path).amounts}
    ((figure, share),) = budget.items()
    assert amounts[figure].after <= share * amounts[figure].before
    assert all(0 < after <= before for before, after in found.values())


@pytest.mark.parametrize("schedule", [END, SOFT], ids=["hard", "soft"])
def test_masks_of_a_training_close_what_reads_constants(tmp_path: Any, schedule: dict[str, Any]) -> None:
    score = "taylor_in" if schedule is SOFT else "l2"
    found = widths(tmp_path, "Learnt", budget={"params": 0.7}, scope="global", when=schedule, score=score)
    assert sum(after for _, after in found.values()) < sum(before for before, _ in found.values())
