"""Wishes that only labels can fulfil are refused before any work where the data has none, each at its line."""

import pytest

from edgecr.core.errors import RecipeError, RequestError
from edgecr.methods import methods
from edgecr.methods.base import check_labels
from edgecr.recipe import load_recipe
from edgecr.recipe.labels import refuse_without_labels
from tests.data.test_unlabelled import plain

RECIPE = """\
name: plain
model: {arch: resnet20, width: 0.25, classes: 3}
data: {name: folder, root: ROOT, size: 8}
steps:
  - prune: {sparsity: 0.25, align: off}
  - repair: {}
  - finetune: {epochs: 1, loss: {kd: {alpha: 1.0}}}
measure: {devices: []}
gates:
  agreement: {min: 0.9, confidence: 0.95}
  noise5_agreement: {min: 0.9}
  noise5_fog_agreement: {min: 0.5}
"""


@pytest.fixture
def problems(tmp_path):
    """The mistakes that a recipe about a folder without labels has after some changes of its text."""
    plain(tmp_path / "photos", 20)

    def found(*changes):
        text = RECIPE.replace("ROOT", str(tmp_path / "photos"))
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "plain.yaml").write_text(text)
        try:
            load_recipe(str(tmp_path / "plain.yaml"))
        except RecipeError as error:
            return [str(problem) for problem in error.problems]
        return []

    return found


def test_what_needs_no_labels_is_a_recipe(problems):
    assert problems() == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (", classes: 3", "", "yaml:2: model: the data has no labels, so it does not tell the number of classes"),
        ("  - repair: {}", "  - train: {epochs: 1}", "yaml:6: steps.1.train: train needs labels"),
        ("alpha: 1.0", "alpha: 0.5", "yaml:7: steps.2.finetune: finetune needs labels"),
        ("align: off", "align: off, score: taylor_in", "yaml:5: steps.0.prune: prune needs labels"),
        ("  agreement: {min", "  clean_accuracy: {min", "the data has no labels: use agreement"),
        ("  noise5_agreement", "  noise5_accuracy", "the data has no labels: use noise5_agreement"),
        ("noise5_fog_agreement", "noise5_fog_accuracy", "the data has no labels: use noise5_fog_agreement"),
        ("measure: {devices: []}", "measure: {devices: []}\nprefer: accuracy", "prefer latency or size"),
    ],
)
def test_each_wish_that_needs_labels_is_one_mistake_at_its_line(problems, old, new, words):
    (found,) = problems((old, new))
    assert words in found
    assert "no labels" in found or "data has none" in found


def test_all_of_them_are_told_at_once(problems):
    assert len(problems((", classes: 3", ""), ("alpha: 1.0", "alpha: 0.5"), ("  agreement", "  clean_accuracy"))) == 3


@pytest.mark.parametrize(
    ("name", "options", "needs"),
    [
        ("train", {}, True),
        ("train", {"loss": {"kd": {"alpha": 1.0}}}, False),
        ("train", {"loss": {"kd": {"alpha": 1.0}}, "keep": "best"}, True),
        ("finetune", {}, True),
        ("distill", {}, True),
        ("distill", {"alpha": 1.0}, False),
        ("repair", {}, False),
        ("prune", {"sparsity": 0.5}, False),
        ("prune", {"sparsity": 0.5, "score": "pfp"}, False),
        ("prune", {"sparsity": 0.5, "score": "taylor_bn"}, True),
        ("prune", {"sparsity": 0.5, "when": {"kind": "iterative"}}, True),
        ("prune", {"sparsity": 0.5, "when": {"kind": "exponential", "retrain": {"loss": {"kd": {"alpha": 1}}}}}, False),
    ],
)
def test_methods_know_whether_they_need_labels(name, options, needs):
    method = methods.get(name).parse(options)
    assert method.needs_labels == needs
    check_labels(name, method, labelled=True)
    if needs:
        with pytest.raises(RequestError, match=f"{name} needs labels"):
            check_labels(name, method, labelled=False)


def test_a_source_that_only_knows_after_loading_is_refused_with_all_wishes(problems, tmp_path):
    problems()
    recipe = load_recipe(str(tmp_path / "plain.yaml"))
    refuse_without_labels(recipe)
    model = recipe.model.model_copy(update={"classes": None})
    with pytest.raises(RequestError, match=r"model: the data has no labels[^\n]*\nprefer: the data has no labels"):
        refuse_without_labels(recipe.model_copy(update={"model": model, "prefer": "accuracy"}))
