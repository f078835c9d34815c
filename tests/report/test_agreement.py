"""Agreement in reports and gates: beside accuracy where there are labels, instead of it where there are none."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from edgecr.core.errors import RequestError
from edgecr.core.estimate import Estimate
from edgecr.report.build import build_result
from edgecr.report.gates.judge import Gate, check_gate_name
from edgecr.report.headline import key_figures
from edgecr.report.render.html import comparison_html, html
from edgecr.report.render.markdown import comparison_markdown, markdown
from edgecr.report.render.terminal import render
from edgecr.report.result import Result
from edgecr.report.tables import accuracy_tables, tables
from edgecr.robustness.result import DIVERGENCE
from tests.report.miniatures import IMAGES, answered, latency, models


def taken(lost, distance=0.02, labelled=True):
    """Answers with a divergence beside those of the candidate: that many images lost, by condition."""
    found = answered(lost)
    spread = np.linspace(0, 2 * distance, IMAGES).astype(np.float32)
    beside = {
        name: {**roles, "candidate": {**roles["candidate"], DIVERGENCE: spread}}
        for name, roles in found.answers.items()
    }
    return replace(found, answers=beside, labelled=labelled)


def made(robustness, labelled=True, gates=None, **parts):
    return build_result(
        name="x",
        id="x-1",
        gates=gates or {},
        robustness=[robustness],
        models=models(),
        latency=[latency()],
        labelled=labelled,
        **parts,
    )


def statuses(gates, robustness, labelled=True):
    return {each.name: each.status.value for each in made(robustness, labelled, gates).gates}


def test_agreement_and_divergence_stand_beside_accuracy():
    (table,) = accuracy_tables(made(taken({"clean": 4})))
    assert table.head == ("condition", "baseline", "candidate", "difference in points", "same answer", "KL")
    clean = dict(zip(table.head, table.rows[0]))
    assert clean["same answer"].startswith("98.0 % [")
    assert clean["KL"].startswith("0.0200 [")
    assert "0 is none" in table.note


def test_the_agreements_that_gates_are_about_stand_on_top_beside_accuracy():
    gates = {name: Gate(min=0.5) for name in ("agreement", "noise5_agreement", "noise5_fog_agreement")}
    found = [each.label for each in key_figures(made(taken({"clean": 4}), gates=gates))]
    assert found[:5] == ["clean accuracy", "noise5 accuracy", "agreement", "noise5 agreement", "noise5 fog agreement"]
    assert not any("agreement" in each.label for each in key_figures(made(taken({}))))


def test_answers_of_earlier_versions_are_not_evaluated_and_never_zero():
    (table,) = accuracy_tables(made(answered({})))
    assert {row[-1] for row in table.rows} == {"not evaluated"}
    assert {row[-2].partition(" [")[0] for row in table.rows} == {"100.0 %"}


def test_a_result_that_knows_no_agreement_has_no_column_for_it():
    old = made(answered({}))
    rows = [replace(row, agreement=None, distance="") for row in old.accuracy]
    (table,) = accuracy_tables(replace(old, accuracy=rows))
    assert table.head[-1] == "difference in points"


def test_without_labels_agreement_is_all_there_is():
    found = made(taken({"clean": 4, "fog": 20}, labelled=False), labelled=False)
    (table,) = accuracy_tables(found)
    assert table.title == "Agreement, suite noise5"
    assert table.head == ("condition", "same answer", "KL")
    assert table.rows[0][2].startswith("0.0200 [")
    figures = {each.label: each for each in key_figures(found)}
    assert list(figures) == ["agreement", "noise5 agreement", "median latency", "file size"]
    assert figures["agreement"].value == "98.0 %"
    assert "KL 0.0200 [" in figures["agreement"].detail
    console = Console(width=120, record=True)
    console.print(render(found))
    texts = [
        markdown(found),
        html(found),
        console.export_text(),
        comparison_markdown([found]),
        comparison_html([found]),
    ]
    for text in texts:
        assert "ccuracy" not in text
        assert "98.0" in text
    assert Result.parse(found.plain()) == found


def test_agreement_that_rests_on_damaged_files_is_missing_and_accuracy_still_not_shown():
    found = made(taken({}, labelled=False), labelled=False)
    rows = [replace(row, agreement=None, divergence=None, evidence=["robustness/x.json"]) for row in found.accuracy]
    shown = replace(found, accuracy=rows, unverified={"robustness/x.json": "is missing"})
    (table,) = accuracy_tables(shown)
    assert {row[1] for row in table.rows} == {"INCOMPLETE"}
    (first, *_) = key_figures(shown)
    assert (first.label, first.value, first.detail) == ("agreement", "INCOMPLETE", "not verified: robustness/x.json")
    assert "ccuracy" not in markdown(shown)


def test_targets_without_labels_are_compared_by_agreement():
    one = made(taken({"clean": 4, "fog": 20}, labelled=False), labelled=False, gates={"agreement": Gate(min=0.9)})
    rows = [replace(row, target=target) for target in ("onnx", "small") for row in one.accuracy]
    two = [replace(row, target=target) for target in ("onnx", "small") for row in models()]
    fast = [replace(row, target=target) for target in ("onnx", "small") for row in one.latency]
    both = build_result(
        name="x", id="x-1", gates={"agreement": Gate(min=0.9)}, models=two, latency=fast, accuracy=rows, labelled=False
    )
    table = tables(both)[0]
    assert table.title == "Candidates"
    assert table.head[3:5] == ("agreement", "worst suite")
    assert table.rows[0][3].startswith("98.0 % [")
    assert table.rows[0][4].startswith("98.0 % [")
    assert "ccuracy" not in markdown(both)


@pytest.mark.parametrize(
    ("gates", "lost", "status"),
    [
        ({"agreement": Gate(min=0.97)}, {"clean": 6}, "PASS"),
        ({"agreement": Gate(min=0.97)}, {"clean": 7}, "FAIL"),
        ({"agreement": Gate(min=0.97, confidence=0.95)}, {"clean": 6}, "FAIL"),
        ({"agreement": Gate(min=0.9, confidence=0.99)}, {"clean": 6}, "PASS"),
        ({"noise5_fog_agreement": Gate(min=0.9)}, {"fog": 20}, "PASS"),
        ({"noise5_fog_agreement": Gate(min=0.9)}, {"fog": 21}, "FAIL"),
        ({"noise5_agreement": Gate(min=0.98)}, {"fog": 20}, "PASS"),
        ({"noise5_agreement": Gate(min=0.98)}, {"fog": 21}, "FAIL"),
    ],
)
@pytest.mark.parametrize("labelled", [True, False])
def test_agreement_gates_are_judged_as_accuracy_minima_are(gates, lost, status, labelled):
    found = statuses(gates, taken(lost, labelled=labelled), labelled)
    assert set(found.values()) == {status}


def test_an_agreement_gate_has_an_interval_of_the_confidence_that_it_asks_for():
    found = made(taken({"clean": 6}), gates={"agreement": Gate(min=0.9, confidence=0.99)})
    row = found.accuracy_of("noise5", "clean")
    assert (row.agreement.confidence, row.divergence.confidence, row.delta.confidence) == (0.99, 0.99, 0.95)


def test_a_candidate_alone_has_no_agreement_to_judge():
    alone = answered({})
    roles = {name: {"candidate": each["candidate"]} for name, each in alone.answers.items()}
    found = made(replace(alone, answers=roles), gates={"agreement": Gate(min=0.5)})
    (gate,) = found.gates
    assert gate.status.value == "INCOMPLETE"
    assert gate.text == "baseline and candidate were not both evaluated"


def test_an_accuracy_gate_about_data_without_labels_never_passes():
    found = statuses({"clean_accuracy": Gate(min=0.01)}, taken({}, labelled=False), labelled=False)
    assert found == {"clean_accuracy": "INCOMPLETE"}


@pytest.mark.parametrize(
    ("gate", "words"),
    [(Gate(drop=0.1), "drop makes no sense for agreement; use min"), (Gate(min=1.5), "a fraction between 0 and 1")],
)
def test_agreement_knows_no_other_limit_than_a_smallest_share(gate, words):
    with pytest.raises(RequestError, match=words):
        check_gate_name("agreement", ["noise5"], gate)


def test_a_divergence_that_is_no_number_is_not_evaluated():
    found = taken({})
    roles = dict(found.answers)
    broken = np.full(IMAGES, np.nan, np.float32)
    roles["fog"] = {**roles["fog"], "candidate": {**roles["fog"]["candidate"], DIVERGENCE: broken}}
    result = made(replace(found, answers=roles))
    assert result.accuracy_of("noise5", "fog").divergence is None
    assert result.accuracy_of("noise5", "mean").divergence is None
    assert isinstance(result.accuracy_of("noise5", "iso").divergence, Estimate)
