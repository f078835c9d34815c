import numpy as np
import pytest
import torch

from edgecr.core.errors import UnknownName, UnsupportedModel, WorkError
from edgecr.tasks import CLASSIFICATION, arrays, tasks
from edgecr.tasks.base import checked_scores
from edgecr.tasks.classification import NO_ANSWER


def logits(*rows):
    return {"logits": np.array(rows, np.float32)}


def test_it_is_known_by_its_name():
    assert tasks.get("classification") is CLASSIFICATION
    with pytest.raises(UnknownName, match="Did you mean"):
        tasks.get("classificaton")


def test_an_answer_is_the_largest_logit_and_its_probability():
    answers = CLASSIFICATION.decode(logits([0.0, 2.0], [1.0, 1.0]))
    assert answers["choices"].tolist() == [1, 0]
    assert answers["choices"].dtype == np.int32
    np.testing.assert_allclose(answers["probabilities"], [1 / (1 + np.exp(-2)), 0.5], rtol=1e-6)


def test_not_a_number_is_never_right():
    answers = CLASSIFICATION.decode(logits([np.nan, 1.0], [0.0, 2.0]))
    assert answers["choices"].tolist() == [NO_ANSWER, 1]
    assert answers["probabilities"][0] == 0
    assert CLASSIFICATION.score(answers, np.array([0, 1])).tolist() == [0.0, 1.0]
    assert CLASSIFICATION.answer_text(answers, 0, ["a", "b"]) == "no answer"


def test_the_outputs_of_a_module_get_their_names():
    tensor = torch.zeros(2, 3)
    for result in (tensor, (tensor, torch.ones(2)), {"aux": torch.ones(2), "logits": tensor}):
        assert CLASSIFICATION.outputs_of(result) == {"logits": tensor}
    for wrong in ({"scores": tensor}, None, "text", []):
        with pytest.raises(UnsupportedModel, match="the task 'classification' needs 'logits'"):
            CLASSIFICATION.outputs_of(wrong)


def test_a_file_from_elsewhere_may_name_its_output_as_it_likes():
    rows = np.zeros((2, 3))
    assert CLASSIFICATION.named({"495": rows})["logits"] is rows
    assert CLASSIFICATION.named({"features": np.ones(2), "logits": rows})["logits"] is rows
    with pytest.raises(UnsupportedModel, match="outputs are none"):
        CLASSIFICATION.named({})


def test_of_several_outputs_none_is_taken_on_trust():
    with pytest.raises(UnsupportedModel, match="outputs are 'aux', 'main'; the task 'classification' needs 'logits'"):
        CLASSIFICATION.named({"aux": np.ones((2, 3)), "main": np.zeros((2, 3))})


def test_infinite_logits_are_no_numbers():
    answers = CLASSIFICATION.decode(logits([np.inf, 1.0], [0.0, -np.inf], [0.0, 2.0]))
    assert answers["choices"].tolist() == [NO_ANSWER, NO_ANSWER, 1]
    assert answers["probabilities"].tolist()[:2] == [0.0, 0.0]


@pytest.mark.parametrize("shape", [(4,), (4, 3, 1, 1), (4, 0)])
def test_outputs_without_a_row_of_logits_are_refused(shape):
    with pytest.raises(UnsupportedModel, match="one row of logits"):
        CLASSIFICATION.decode({"logits": np.zeros(shape, np.float32)})


def test_tensors_become_arrays_of_single_precision_and_whole_numbers_stay():
    found = arrays({"half": torch.ones(2, dtype=torch.bfloat16), "whole": torch.ones(2, dtype=torch.int64)})
    assert (found["half"].dtype, found["whole"].dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("given", [np.array([0.5, 1.5]), np.array([np.nan, 0]), np.array([0.5]), np.ones((2, 2))])
def test_scores_out_of_range_are_refused(given, monkeypatch):
    monkeypatch.setattr(type(CLASSIFICATION), "score", lambda *_: given)
    with pytest.raises(WorkError, match="'classification' gave scores"):
        checked_scores(CLASSIFICATION, {}, np.zeros(2))


def test_agreement_is_about_the_class_and_forgives_ties():
    expected, given = logits([1.0, 1.0004], [1.0, 1.5]), logits([1.0001, 1.0], [2.0, 1.5])
    assert CLASSIFICATION.agreement(expected, given, {"logits": 1e-3}).tolist() == [True, False]


def test_two_models_without_an_answer_do_not_give_the_same_one():
    first = CLASSIFICATION.decode(logits([np.nan, 0.0], [0.0, 1.0], [0.0, 1.0]))
    other = CLASSIFICATION.decode(logits([np.nan, 0.0], [0.0, 9.0], [1.0, 0.0]))
    assert CLASSIFICATION.same(first, other).tolist() == [False, True, False]


def test_a_divergence_is_exact_for_large_logits_and_absent_where_there_is_no_answer():
    baseline, other = logits([1000.0, 1000.0], [0.0, 0.0], [np.inf, 0.0]), logits([0.0, np.log(3)], [0.0, 1.0], [0, 0])
    found = CLASSIFICATION.divergence(baseline, other)
    assert found[0] == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3), abs=1e-6)
    assert found[1] > 0
    assert np.isnan(found[2])
    assert np.isnan(CLASSIFICATION.divergence(logits([0.0, 1.0]), logits([0.0, 1.0, 2.0]))).all()
