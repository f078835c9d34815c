"""A baseline that gives one answer to everything proves nothing: whatever always gives it, too, agrees with it."""

import numpy as np
import pytest

from edgecr.report.build import build_result
from edgecr.report.gates.judge import Gate
from edgecr.robustness.result import RobustnessResult
from edgecr.robustness.suites import suites
from edgecr.tasks import CLASSIFICATION
from edgecr.tasks.classification import NO_ANSWER

SAME = "one and the same answer for"


def judged(choices, gate, lost=0, labelled=False):
    """The baseline gives these answers, the candidate too but for some; under fog the baseline answers the first."""
    choices = np.asarray(choices)

    def roles(before):
        after = before.copy()
        after[:lost] += 1
        sure = np.full(len(choices), 0.9, np.float32)
        return {name: {"choices": each, "probabilities": sure} for name, each in _both(before, after)}

    answers = {name: roles(choices) for name in suites.get("noise5").conditions}
    answers["fog"] = roles(np.full_like(choices, choices[0]))
    found = RobustnessResult(
        "noise5", 0, np.arange(len(choices)), np.arange(len(choices)) % 4, answers, labelled=labelled
    )
    return build_result(name="x", id="x", gates=gate, robustness=[found], labelled=labelled)


def _both(before, after):
    return (("baseline", before), ("candidate", after))


def answers(one, others=0):
    """One class so many times, and others of three more classes."""
    return np.array([0] * one + [1 + number % 3 for number in range(others)])


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize(
    ("choices", "gate", "status"),
    [
        (answers(200), Gate(min=0.9), "INCOMPLETE"),
        (answers(200), Gate(min=0.9, confidence=0.95), "INCOMPLETE"),
        (answers(297, 3), Gate(min=0.9), "INCOMPLETE"),
        (answers(180, 20), Gate(min=0.9), "INCOMPLETE"),  # always answering the first would hold it exactly
        (answers(180, 20), Gate(min=0.95), "PASS"),
        (answers(179, 21), Gate(min=0.9), "PASS"),
        (np.arange(40) % 2, Gate(min=0.9), "PASS"),
        (np.arange(40) % 2, Gate(min=0.5), "INCOMPLETE"),
    ],
)
def test_a_limit_that_one_answer_for_everything_would_hold_proves_nothing(choices, gate, status, labelled):
    result = judged(choices, {"agreement": gate}, labelled=labelled)
    assert result.gates[0].status.value == status
    assert (SAME in result.gates[0].text) is (status == "INCOMPLETE")


def test_a_limit_that_does_not_hold_fails_all_the_same():
    result = judged(answers(200), {"agreement": Gate(min=0.9)}, lost=40)
    assert result.verdict.value == "DON'T SHIP"
    assert SAME not in result.gates[0].text


def test_each_condition_is_judged_by_the_answers_under_it():
    gates = {"noise5_fog_agreement": Gate(min=0.9), "noise5_iso_agreement": Gate(min=0.9), "agreement": Gate(min=0.9)}
    result = judged(np.arange(200) % 4, gates)
    assert [gate.status.value for gate in result.gates] == ["INCOMPLETE", "PASS", "PASS"]
    assert result.accuracy_of("noise5", "mean").constant == pytest.approx((1 + 4 * 0.25) / 5)


def test_images_without_an_answer_are_not_given_one_alike():
    choices = np.array([NO_ANSWER] * 7 + [1, 1, 2])
    assert CLASSIFICATION.constant({"choices": choices}) == pytest.approx(0.2)
    assert CLASSIFICATION.constant({"choices": choices[:7]}) is None
