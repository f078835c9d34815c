import json

import numpy as np
import pytest
import torch

from edgecr.core.errors import FileProblem, WorkError
from edgecr.core.progress import Monitor
from edgecr.data.base import ImageSet
from edgecr.predictors.base import Predictor
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.examples import load_examples, pick_examples, save_examples
from edgecr.robustness.result import RobustnessResult, question_key
from edgecr.robustness.suites import suites

SUITE = suites.get("noise5")


class Squares(ImageSet):
    """Images whose mean brightness tells their class."""

    def __init__(self, count=20):
        self.labels = np.arange(count, dtype=np.int64) % 4
        noise = np.random.default_rng(0).integers(0, 20, (count, 16, 16, 3))
        self._images = torch.from_numpy((noise + self.labels[:, None, None, None] * 50 + 20).astype(np.uint8))

    def images(self, indices):
        return self._images[torch.as_tensor(np.asarray(indices))]


class Brightness(Predictor):
    """Chooses the class of the nearest brightness; counts how often it was asked."""

    def __init__(self, offset=0.0):
        self.offset, self.asked, self.seen = offset, 0, []

    def predict(self, images):
        self.asked += 1
        self.seen.append(images)
        mean = images.mean(axis=(1, 2, 3)) + self.offset
        return {"logits": -np.abs(mean[:, None] - (np.arange(4) * 50 + 30)).astype(np.float32)}


@pytest.fixture
def roles():
    return {"baseline": Brightness(), "candidate": Brightness(18)}


def test_every_role_sees_the_same_images(roles, tmp_path):
    result = evaluate(roles, SUITE, Squares(), tmp_path)
    assert result.roles == ("baseline", "candidate")
    assert result.corruptions == ("gauss", "iso", "rgb_shift", "pixel_dropout", "fog")
    for one, other in zip(roles["baseline"].seen, roles["candidate"].seen):
        assert (one == other).all()
    assert result.accuracy("baseline", "clean").value == 1.0
    assert result.accuracy("baseline", "clean").low < 1.0


def test_a_kill_continues_and_a_reload_agrees(tmp_path, roles):
    first = evaluate(roles, SUITE, Squares(), tmp_path)
    (tmp_path / "fog.npz").unlink()
    again = {"baseline": Brightness(), "candidate": Brightness(18)}
    second = evaluate(again, SUITE, Squares(), tmp_path)
    assert again["baseline"].asked == 1
    loaded = RobustnessResult.load(tmp_path)
    for result in (second, loaded):
        for condition in SUITE.conditions:
            assert (result.scores("candidate", condition) == first.scores("candidate", condition)).all()
        assert result.mean_delta() == first.mean_delta()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"indices": [0, 1, 2]},
        {"identities": {"candidate": "another file"}},
    ],
    ids=["seed", "indices", "file"],
)
def test_stale_answers_are_not_taken_over(tmp_path, roles, change):
    evaluate(roles, SUITE, Squares(), tmp_path)
    before = roles["candidate"].asked
    evaluate(roles, SUITE, Squares(), tmp_path, **change)
    assert roles["candidate"].asked == before + 6


def test_a_subset_sees_what_the_whole_set_sees(tmp_path, roles):
    whole = evaluate(roles, SUITE, Squares(), tmp_path / "whole")
    part = evaluate(roles, SUITE, Squares(), tmp_path / "part", indices=[7, 3])
    for condition in SUITE.conditions:
        choices = whole.answers[condition]["candidate"]["choices"]
        assert (part.answers[condition]["candidate"]["choices"] == choices[[7, 3]]).all()


def test_a_damaged_file_is_done_again_and_refused_when_only_read(tmp_path, roles):
    class Listening(Monitor):
        heard = ""

        def warn(self, text):
            self.heard += text

    evaluate(roles, SUITE, Squares(), tmp_path)
    (tmp_path / "iso.npz").write_bytes(b"PK\x03\x04 rubbish")
    with pytest.raises(FileProblem, match=r"iso\.npz"):
        RobustnessResult.load(tmp_path)
    monitor = Listening()
    evaluate(roles, SUITE, Squares(), tmp_path, monitor=monitor)
    assert "iso.npz" in monitor.heard
    RobustnessResult.load(tmp_path)


@pytest.mark.parametrize("change", ["candidate.choices", "baseline.probabilities", "digest"])
def test_edited_answers_are_refused_and_never_taken_over(tmp_path, roles, change):
    first = evaluate(roles, SUITE, Squares(), tmp_path)
    with np.load(tmp_path / "fog.npz") as opened:
        arrays = dict(opened)
    arrays[change] = arrays[change][::-1] if arrays[change].ndim else np.array("0" * 64)
    np.savez_compressed(tmp_path / "fog.npz", **arrays)
    with pytest.raises(FileProblem, match="changed after it was written"):
        RobustnessResult.load(tmp_path)
    again = evaluate(roles, SUITE, Squares(), tmp_path)
    assert (again.answers["fog"]["candidate"]["choices"] == first.answers["fog"]["candidate"]["choices"]).all()
    assert (
        again.answers["fog"]["baseline"]["probabilities"].tobytes()
        == first.answers["fog"]["baseline"]["probabilities"].tobytes()
    )


def test_a_result_says_which_files_answered(tmp_path, roles):
    identities = {"baseline": "1", "candidate": "2"}
    made = evaluate(roles, SUITE, Squares(), tmp_path, identities=identities)
    assert made.models == identities == RobustnessResult.load(tmp_path).models
    assert made.key == RobustnessResult.load(tmp_path).key


@pytest.mark.parametrize(
    "change", [{"labels": [0] * 20}, {"labels": [0]}, {"indices": None}, {"roles": 3}, {"conditions": 7}]
)
def test_an_edited_question_is_refused(tmp_path, roles, change):
    evaluate(roles, SUITE, Squares(), tmp_path)
    plan = json.loads((tmp_path / "robustness.json").read_text())
    (tmp_path / "robustness.json").write_text(json.dumps(plan | change))
    with pytest.raises(FileProblem, match=r"robustness\.json"):
        RobustnessResult.load(tmp_path)


def test_a_file_with_pickled_objects_is_refused(tmp_path, roles):
    evaluate(roles, SUITE, Squares(), tmp_path)
    np.savez(tmp_path / "iso.npz", key=np.array(object()))
    with pytest.raises(FileProblem, match="damaged"):
        RobustnessResult.load(tmp_path)


def test_another_schema_is_refused(tmp_path, roles):
    evaluate(roles, SUITE, Squares(), tmp_path)
    plan = json.loads((tmp_path / "robustness.json").read_text())
    (tmp_path / "robustness.json").write_text(json.dumps(plan | {"schema": 99}))
    with pytest.raises(FileProblem, match="schema 99"):
        RobustnessResult.load(tmp_path)


def test_a_model_that_leaves_images_out_is_named(tmp_path, roles):
    class Forgetful(Brightness):
        def predict(self, images):
            return super().predict(images[1:])

    with pytest.raises(WorkError, match="The candidate gave 19 choices for 20 images"):
        evaluate(roles | {"candidate": Forgetful()}, SUITE, Squares(), tmp_path)
    assert not list(tmp_path.glob("*.npz"))


@pytest.mark.parametrize("task", ["no such task", 3, ["classification"], None])
def test_a_question_about_an_unknown_task_is_refused(tmp_path, roles, task):
    evaluate(roles, SUITE, Squares(), tmp_path)
    plan = json.loads((tmp_path / "robustness.json").read_text()) | {"task": task}
    (tmp_path / "robustness.json").write_text(json.dumps(plan | {"key": question_key(plan)}))
    with pytest.raises(FileProblem, match=r"robustness\.json"):
        RobustnessResult.load(tmp_path)


def test_no_images_is_an_error(tmp_path, roles):
    with pytest.raises(WorkError, match="no image"):
        evaluate(roles, SUITE, Squares(), tmp_path, indices=[])


def test_delta_is_paired_and_mean_is_their_average(tmp_path, roles):
    result = evaluate(roles, SUITE, Squares(), tmp_path)
    deltas = [result.delta(name).value for name in result.corruptions]
    assert result.mean_delta().value == pytest.approx(np.mean(deltas))
    fog = result.accuracy("candidate", "fog").value - result.accuracy("baseline", "fog").value
    assert result.delta("fog").value == pytest.approx(fog)


def test_the_clean_suite_has_only_clean(tmp_path, roles):
    result = evaluate(roles, suites.get("clean"), Squares(), tmp_path)
    assert result.corruptions == ()
    assert result.delta("clean").samples == 20


def test_examples_show_lost_answers_first(tmp_path, roles):
    images = Squares()
    result = evaluate(roles, SUITE, images, tmp_path)
    examples = pick_examples(result, SUITE, images, ["a", "b", "c", "d"], each=2)
    assert len(examples) == 10
    for condition in result.corruptions:
        lost = (result.scores("baseline", condition) > result.scores("candidate", condition)).sum()
        if lost:
            first = next(each for each in examples if each.condition == condition)
            assert first.answers["baseline"].right
    assert len({each.index for each in examples}) > 2
    assert all(each.png and each.clean_png for each in examples)


def test_examples_survive_their_file(tmp_path, roles):
    images = Squares()
    result = evaluate(roles, SUITE, images, tmp_path)
    examples = pick_examples(result, SUITE, images, ["a", "b", "c", "d"], each=1)
    save_examples(tmp_path / "examples.json", examples)
    assert load_examples(tmp_path / "examples.json") == examples
    (tmp_path / "examples.json").write_text('[{"suite": 3}]')
    with pytest.raises(FileProblem, match="examples"):
        load_examples(tmp_path / "examples.json")
