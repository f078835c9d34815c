"""A method from outside records what it did: the report shows it, and the gate ``budget`` judges it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgecr.core.errors import FileProblem, RequestError
from edgecr.core.step_record import BudgetOutcome, Row, Shown, StepRecord, read_shown, read_values, record_file
from edgecr.methods.base import Method, methods
from edgecr.report.gates.judge import Gate, judge
from edgecr.report.result import Result
from edgecr.report.step_rows import step_row
from tests.workplace import context


class Memory(StepRecord):
    """Figures of an imaginary method."""

    layers: dict[str, tuple[int, int]]
    allowed: int
    used: int

    def shown(self, name: str) -> Shown:
        return Shown(
            title="Memory plan",
            head=("layer", "bytes"),
            rows=tuple(Row(label=layer, before=old, value=new) for layer, (old, new) in self.layers.items()),
            facts={"memory": f"{self.used} bytes"},
            budgets=(BudgetOutcome(figure="memory", asked=self.allowed, reached=self.used),),
        )


class Economise(Method):
    """Leave the model as it is, and say otherwise."""

    compresses: ClassVar[bool] = True
    records: ClassVar[tuple[str, ...]] = ("memory",)
    used: int = 90

    def apply(self, subject: Any, context: Any) -> Any:
        context.record("memory", Memory(layers={"stem": (200, self.used)}, allowed=100, used=self.used))
        context.record("notes", {"rounds": 3, "rate": 0.5, "done": True, "kept": ["stem"], "reason": None})
        return subject


# The recipe runs in a process of its own, which knows the method before it reads recipes


def step_of_a_recipe(folder: Path, used: int) -> None:
    """Runs one step through the pipeline, then prints what the judge makes of its records, sound and forged."""
    methods.register("economise")(Economise)

    from edgecr.core.progress import Monitor
    from edgecr.pipeline import Work
    from edgecr.recipe import Recipe
    from edgecr.run import Run
    from edgecr.stages.asked import question
    from edgecr.stages.step_store import StepStore
    from edgecr.training.context import Execution

    recipe = Recipe.parse(
        {
            "name": "toy",
            "model": {"arch": "resnet20", "width": 0.25, "blocks": [1, 1, 1]},
            "data": {"name": "digits"},
            "steps": [{"economise": {"used": used}}],
            "gates": {"budget": {"ratio": 1.0}},
        }
    )
    run, execution, monitor = Run(folder / "runs" / "toy"), Execution(), Monitor()
    data = recipe.data.load(monitor)
    run.begin(question(recipe, "", data), "", {})
    Work(recipe, run, data, StepStore.beside(folder / "runs", execution), execution, monitor).step(0)

    told = [judgement(run)]
    record, stage = run.folder / "steps/00-economise/records/memory.json", run.folder / "stages/step-00-economise.json"
    vouched = json.loads(stage.read_text())
    vouched["outputs"].pop("steps/00-economise/records/memory.json")
    stage.write_text(json.dumps(vouched))
    told.append(judgement(run))
    record.unlink()
    told.append(judgement(run))
    print(json.dumps(told))


def judgement(run: Any) -> dict[str, Any]:
    from edgecr.report.gates.judge import Gate, judge
    from edgecr.report.tables import tables
    from edgecr.stages.judge import judged

    result = judged(run)
    [row] = result.steps
    own = [file for file in row.evidence if "step-00" in file]  # the later stages of this run were never reached
    [gate] = judge({"budget": Gate(ratio=1.0)}, replace(result, steps=[replace(row, evidence=own)]))
    return {
        "step": result.plain()["steps"][0],
        "gate": [gate.status.value, gate.text],
        "tables": {table.title: [table.head, table.rows] for table in tables(result)},
        "wrong": result.unverified,
    }


@pytest.fixture(scope="module", params=[90, 110])
def told(request, tmp_path_factory):
    folder, words = tmp_path_factory.mktemp("toy"), [sys.executable, "-m", __name__]
    done = subprocess.run([*words, str(folder), str(request.param)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout.splitlines()[-1])


def test_the_report_shows_every_record_and_the_gate_judges_its_budget(told):
    used, (sound, *_) = told
    assert sound["tables"]["Memory plan"] == [["layer", "bytes"], [["stem", f"200 → {used}"]]]
    rows = [["rounds", "3"], ["rate", "0.5"], ["done", "yes"], ["kept", '["stem"]'], ["reason", "none"]]
    assert sound["tables"]["notes"] == [["", "value"], rows]
    assert sound["step"]["facts"] == {"memory": f"{used} bytes"}
    status = "PASS" if used == 90 else "FAIL"
    assert sound["gate"] == [status, f"ratio {used / 100:.2f}x on memory after economise"]


def test_a_record_that_the_step_does_not_vouch_for_is_not_believed(told):
    _, (_, *forged) = told
    for one in forged:
        assert one["gate"][0] == "INCOMPLETE"
        assert one["step"]["records"] == []
        assert "does not vouch for steps/00-economise/records/memory.json" in str(one["wrong"])


# What is refused


def test_a_record_is_read_as_it_was_written(tmp_path):
    place, memory = context(tmp_path), Memory(layers={"stem": (2, 1)}, allowed=2, used=1)
    place.record("memory", memory)
    file = record_file(tmp_path, "memory")
    assert Memory.parse(read_values(file)) == memory
    assert read_shown(file) == memory.shown("memory")


class Loss(StepRecord):
    """A figure that may go astray."""

    last: float


NOTED = {
    "loss": float("nan"),
    "worst": -math.inf,
    "rate": np.float32(0.5),
    "kept": np.int64(3),
    "done": np.bool_(True),
    "file": Path("a/b"),
    "largest": 2**63,
    "smallest": -(2**70),
    "layers": {"a": [np.int64(1), math.inf], "b": np.array([1.5, 2.0])},
}


def test_no_number_ends_a_step_and_none_is_lost(tmp_path):
    context(tmp_path).record("notes", NOTED)
    file = record_file(tmp_path, "notes")
    shown = {row.label: row.value for row in read_shown(file).rows}
    assert shown == {
        "loss": "nan", "worst": "-inf", "rate": 0.5, "kept": 3, "done": True, "file": "a/b",
        "largest": str(2**63), "smallest": str(-(2**70)), "layers": '{"a": [1, Infinity], "b": [1.5, 2.0]}',
    }  # fmt: skip
    assert read_values(file) == {
        "loss": None, "worst": None, "rate": 0.5, "kept": 3, "done": True, "file": "a/b",
        "largest": 2**63, "smallest": -(2**70), "layers": {"a": [1, None], "b": [1.5, 2.0]},
    }  # fmt: skip


def test_a_record_with_fields_shows_what_is_no_number_too(tmp_path):
    context(tmp_path).record("loss", Loss(last=math.inf))
    assert [row.value for row in read_shown(record_file(tmp_path, "loss")).rows] == ["inf"]
    assert read_values(record_file(tmp_path, "loss")) == {"last": None}
    assert Row(label="a", value=np.float64("nan"), before=Path("x")) == Row(label="a", value="nan", before="x")


@pytest.mark.parametrize("order", [((100, 110), (100, 90)), ((100, 90), (100, 110))])
@pytest.mark.parametrize("apart", [True, False])
def test_all_budgets_of_one_figure_must_hold(tmp_path, order, apart):
    """Whichever comes last, in one record of the step or in several."""
    outcomes = [BudgetOutcome(figure="macs", asked=asked, reached=reached) for asked, reached in order]
    for number, part in enumerate([[each] for each in outcomes] if apart else [outcomes]):
        context(tmp_path).record(f"part{number}", Outcomes(kept=tuple(part)))
    result = Result("x", "x", steps=[step_row("economise", "", tmp_path, {})])
    (gate,) = judge({"budget": Gate(ratio=1.0)}, result)
    assert (gate.status.value, gate.value) == ("FAIL", 1.1)
    assert "(worst of 2)" in gate.text


class Outcomes(StepRecord):
    """Nothing but budgets."""

    kept: tuple[BudgetOutcome, ...]

    def shown(self, name: str) -> Shown:
        return Shown(title=name, budgets=self.kept)


@pytest.mark.parametrize("name", ["", "../plan", "a/b", ".hidden"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    with pytest.raises(RequestError, match="cannot be the name of a record"):
        context(tmp_path).record(name, {})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda one: one.update(schema_version=2), "another version"),
        (lambda one: one["shown"].update(title=3), "shown.title"),
        (lambda one: one["shown"].update(rows=[{"label": "a", "value": 1}] * 2), "two rows have the same label"),
        (lambda one: one["shown"].update(budgets=[{"figure": "a", "asked": -1, "reached": 1}]), "asked"),
        (lambda one: one.update(extra=1), "extra"),
    ],
)
def test_a_damaged_record_is_a_file_problem(tmp_path, change, problem):
    context(tmp_path).record("notes", {"rounds": 3})
    file = record_file(tmp_path, "notes")
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
    with pytest.raises(FileProblem, match=problem):
        read_shown(file)


if __name__ == "__main__":
    step_of_a_recipe(Path(sys.argv[1]), int(sys.argv[2]))
