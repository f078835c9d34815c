"""A baseline that does not know the classes proves nothing: whatever is compared with it, no accuracy gate holds."""

import numpy as np
import pytest

from edgecr.report.build import build_result
from edgecr.report.gates.judge import Gate
from edgecr.robustness.result import RobustnessResult
from edgecr.robustness.suites import suites

CLASSES = 4
GATES = {"clean_accuracy": Gate(drop=0.01), "noise5_accuracy": Gate(drop=0.05)}


def judged(labels, right, gates=GATES):
    """Baseline and candidate answer alike: right on so many images, spread over the classes, else the next class."""
    labels = np.asarray(labels)
    known = np.zeros(len(labels), bool)
    known[np.random.default_rng(0).permutation(len(labels))[:right]] = True
    choices = np.where(known, labels, (labels + 1) % CLASSES)
    answer = {"choices": choices, "probabilities": np.full(len(labels), 0.9, np.float32)}
    answers = {name: {"baseline": answer, "candidate": answer} for name in suites.get("noise5").conditions}
    robustness = RobustnessResult("noise5", 0, np.arange(len(labels)), labels, answers)
    return build_result(name="x", id="x", gates=gates, robustness=[robustness])


EVEN, UNEVEN = np.arange(200) % CLASSES, np.array([0] * 180 + [1] * 20)


@pytest.mark.parametrize(
    ("labels", "right"),
    [(EVEN, 50), (EVEN, 55), (EVEN, 0), (UNEVEN, 180), (UNEVEN, 175), (EVEN[:24], 6)],
)
def test_no_accuracy_gate_holds_beside_a_baseline_that_guesses(labels, right):
    result = judged(labels, right)
    assert result.verdict.value == "INCOMPLETE"
    assert {gate.status.value for gate in result.gates} == {"INCOMPLETE"}
    assert all("not shown to be above chance" in gate.text for gate in result.gates)
    assert sum("not shown to be above chance" in text for text in result.warnings) == 1


@pytest.mark.parametrize(("labels", "right"), [(EVEN, 200), (EVEN, 70), (UNEVEN, 190), (EVEN[:24], 14), (EVEN[:4], 4)])
def test_a_baseline_that_knows_the_classes_is_believed(labels, right):
    result = judged(labels, right)
    assert result.verdict.value == "SHIP"
    assert not any("chance" in text for text in result.warnings)


@pytest.mark.parametrize(("labels", "right"), [([0, 1], 2), ([0, 1, 0], 3), ([0, 0, 0, 0], 4), ([0, 1], 1)])
def test_where_few_images_cannot_tell_there_is_a_doubt(labels, right):
    result = judged(labels, right)
    assert result.verdict.value == "SHIP"
    (doubt,) = (text for text in result.warnings if "chance" in text)
    assert "more test images could settle it" in doubt


def test_other_gates_do_not_ask_how_right_the_baseline_is():
    result = judged(EVEN, 50, {"clean_accuracy": Gate(min=0.1), "size": Gate(max=1)})
    assert "chance" in result.gates[0].text
    assert "chance" not in result.gates[1].text


def compared(before, after, gates=GATES):
    """A baseline and a candidate that know so many of 200 images."""
    labels = EVEN
    answers = {}
    for role, right in (("baseline", before), ("candidate", after)):
        known = np.random.default_rng(0).permutation(len(labels)) < right
        choices = np.where(known, labels, (labels + 1) % CLASSES)
        answers[role] = {"choices": choices, "probabilities": np.full(len(labels), 0.9, np.float32)}
    every = dict.fromkeys(suites.get("noise5").conditions, answers)
    robustness = RobustnessResult("noise5", 0, np.arange(len(labels)), labels, every)
    return build_result(name="x", id="x", gates=gates, robustness=[robustness], warnings=["another"])


def test_a_candidate_that_guesses_is_the_first_thing_told():
    first, *others = compared(190, 55).warnings
    assert "the candidate's clean accuracy" in first
    assert "compression has ruined this model" in first
    assert others == ["another"]
    assert compared(190, 150).warnings == ["another"]
    assert not any("ruined" in text for text in compared(55, 50).warnings)


def test_a_candidate_that_guesses_never_ships_whatever_the_gates_allow():
    allowed = {"clean_accuracy": Gate(drop=0.9)}
    result = compared(190, 55, allowed)
    assert [gate.status.value for gate in result.gates] == ["PASS", "FAIL"]
    assert "compression has ruined this model" in result.gates[1].text
    assert result.verdict.value == "DON'T SHIP"
    assert compared(190, 150, allowed).verdict.value == "SHIP"
