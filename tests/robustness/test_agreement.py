"""Agreement of a candidate with its baseline, and how far its probabilities are from the baseline's."""

import json

import numpy as np
import pytest

from edgecr.core.errors import FileProblem, RequestError
from edgecr.predictors.base import Predictor
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.examples import UNKNOWN, pick_examples
from edgecr.robustness.result import DIVERGENCE, RobustnessResult, question_key, read_answers, write_answers
from edgecr.robustness.statistics import wilson
from edgecr.robustness.suites import suites
from tests.robustness.test_evaluate import Brightness, Squares

SUITE = suites.get("noise5")


class Neighbour(Brightness):
    """Gives the logits of each class to the next one."""

    def predict(self, images):
        return {"logits": np.roll(super().predict(images)["logits"], 1, axis=1)}


class Constant(Predictor):
    """Answers every image with the same probabilities."""

    def __init__(self, *probabilities):
        self.probabilities = probabilities

    def predict(self, images):
        return {"logits": np.log(np.tile(np.float32(self.probabilities), (len(images), 1)))}


class Silent(Predictor):
    """Has no number for any image."""

    def predict(self, images):
        return {"logits": np.full((len(images), 4), np.nan, np.float32)}


def asked(folder, candidate, baseline=None, suite=SUITE, **more):
    return evaluate({"baseline": baseline or Brightness(), "candidate": candidate}, suite, Squares(), folder, **more)


def test_identical_models_agree_on_every_image_and_are_not_apart(tmp_path):
    found = asked(tmp_path, Brightness())
    for condition in SUITE.conditions:
        assert found.agreement(condition) == wilson(20, 20)
        assert found.divergence(condition).value == 0
        assert found.divergence(condition).low is None  # nothing deviates, so nothing bounds its doubt
    assert (found.mean_agreement().value, found.mean_divergence().value) == (1, 0)


def test_a_model_that_answers_the_neighbour_agrees_nowhere(tmp_path):
    found = asked(tmp_path, Neighbour())
    assert [found.agreement(name).value for name in SUITE.conditions] == [0] * 6
    assert found.mean_agreement().value == 0
    assert found.mean_agreement().high < 0.2
    assert found.divergence("clean").value > 1


@pytest.mark.parametrize(
    ("baseline", "candidate", "nats"),
    [
        ((0.5, 0.5), (0.25, 0.75), 0.14384),  # 0.5 ln 2 + 0.5 ln(2/3)
        ((0.25, 0.75), (0.5, 0.5), 0.13081),  # 0.25 ln 0.5 + 0.75 ln 1.5: not the same the other way round
        ((0.9, 0.1), (0.1, 0.9), 1.75778),  # 0.8 ln 9
    ],
)
def test_the_divergence_is_that_of_the_baseline_from_the_candidate(tmp_path, baseline, candidate, nats):
    found = asked(tmp_path, Constant(*candidate), Constant(*baseline), suites.get("clean"))
    assert found.divergence("clean").value == pytest.approx(nats, abs=1e-5)
    stored = read_answers(tmp_path / "clean.npz", found.key)
    assert stored["candidate"][DIVERGENCE].dtype == np.float32
    assert stored["candidate"][DIVERGENCE].shape == (20,)
    assert DIVERGENCE not in stored["baseline"]


def test_means_are_over_conditions_with_intervals_over_images(tmp_path):
    found = asked(tmp_path, Brightness(24))
    assert found.mean_agreement().value == pytest.approx(np.mean([found.agreement(n).value for n in found.corruptions]))
    apart = found.mean_divergence()
    assert apart.value == pytest.approx(np.mean([found.divergence(name).value for name in found.corruptions]))
    assert apart.low < apart.value < apart.high
    assert apart.samples == 20
    again = RobustnessResult.load(tmp_path)
    assert (again.mean_agreement(), again.mean_divergence()) == (found.mean_agreement(), apart)


def test_each_candidate_is_compared_with_the_baseline(tmp_path):
    roles = {"baseline": Constant(0.5, 0.5), "one": Constant(0.25, 0.75), "two": Constant(0.5, 0.5)}
    found = evaluate(roles, suites.get("clean"), Squares(), tmp_path)
    assert found.divergence("clean", candidate="one").value == pytest.approx(0.14384, abs=1e-5)
    assert found.divergence("clean", candidate="two").value == 0


def test_a_model_without_answers_agrees_with_nothing(tmp_path):
    both = asked(tmp_path / "both", Silent(), Silent(), suites.get("clean"))
    assert both.agreement("clean").value == 0
    one = asked(tmp_path / "one", Silent(), suite=suites.get("clean"))
    assert one.agreement("clean").value == 0
    assert one.divergence("clean") is None


def as_written_before(folder):
    """Leaves the answers as they were stored before anything was taken beside them."""
    plan = json.loads((folder / "robustness.json").read_text())
    old = {name: value for name, value in plan.items() if name != "distance"}
    key = question_key(old)
    for file in folder.glob("*.npz"):
        answers = read_answers(file, plan["key"])
        del answers["candidate"][DIVERGENCE]
        write_answers(file, answers, key)
    (folder / "robustness.json").write_text(json.dumps(old | {"key": key}))


def test_answers_of_earlier_versions_have_no_divergence_and_are_asked_again(tmp_path):
    made = asked(tmp_path, Brightness(24))
    as_written_before(tmp_path)
    old = RobustnessResult.load(tmp_path)
    assert old.divergence("clean") is None
    assert old.mean_divergence() is None
    assert old.agreement("fog") == made.agreement("fog")
    again = Brightness(24)
    assert asked(tmp_path, again).mean_divergence() == made.mean_divergence()
    assert again.asked == 6
    assert RobustnessResult.load(tmp_path).mean_divergence() == made.mean_divergence()


def test_a_file_that_lacks_what_its_question_asks_for_is_refused_and_made_again(tmp_path):
    made = asked(tmp_path, Brightness(24))
    answers = read_answers(tmp_path / "fog.npz", made.key)
    del answers["candidate"][DIVERGENCE]
    write_answers(tmp_path / "fog.npz", answers, made.key)
    with pytest.raises(FileProblem, match=r"fog\.npz does not hold how far the candidate is from the baseline"):
        RobustnessResult.load(tmp_path)
    again = Brightness(24)
    assert asked(tmp_path, again).divergence("fog") == made.divergence("fog")
    assert again.asked == 1


def test_one_model_alone_has_nobody_to_agree_with(tmp_path):
    found = evaluate({"candidate": Brightness()}, suites.get("clean"), Squares(), tmp_path)
    assert "distance" not in json.loads((tmp_path / "robustness.json").read_text())
    assert found.accuracy("candidate", "clean").value == 1


def test_without_labels_there_is_agreement_and_no_accuracy(tmp_path):
    found = asked(tmp_path, Brightness(24), labelled=False)
    again = RobustnessResult.load(tmp_path)
    assert not again.labelled
    assert again.agreement("fog") == found.agreement("fog")
    for figure in (lambda: again.accuracy("candidate", "clean"), again.mean_delta):
        with pytest.raises(RequestError, match="no labels"):
            figure()
    assert asked(tmp_path / "labelled", Brightness(24)).key != found.key


def test_examples_without_labels_show_changed_answers_first_and_nothing_right_or_wrong(tmp_path):
    found = asked(tmp_path, Brightness(26), labelled=False)
    examples = pick_examples(found, SUITE, Squares(), ["a", "b", "c", "d"], each=1)
    assert {each.label for each in examples} == {UNKNOWN}
    assert {answer.right for each in examples for answer in each.answers.values()} == {None}
    (first, *_) = examples
    assert first.answers["baseline"].label != first.answers["candidate"].label
