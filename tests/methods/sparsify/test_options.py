"""Wishes that contradict each other, or that nothing would ask for, are refused with a word."""

from typing import get_args

import pytest
from pydantic import ValidationError

from edgecr.core.errors import RecipeError
from edgecr.methods.sparsify import Sparsify
from edgecr.recipe import load_recipe

ROUNDS = {"kind": "iterative", "rounds": 3}
HYDRA = {"score": "hydra", "scope": "layer", "learn": {"epochs": 1}}
RECIPE = "name: r\nmodel: {arch: resnet20, width: 0.25}\ndata: {name: digits}\nsteps:\n"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "exactly one of sparsity, pattern and when.ratios, not none"),
        ({"sparsity": 1.0}, "less than 1"),
        ({"sparsity": -0.1}, "greater than or equal to 0"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "not sparsity and pattern"),
        ({"sparsity": 0.5, "when": {"kind": "iterative", "ratios": [0.5]}}, "not sparsity and when.ratios"),
        ({"sparsity": 0.5, "when": {"kind": "iterative"}}, "exactly one of rounds, fraction and ratios, not none"),
        ({"sparsity": 0.5, "when": ROUNDS | {"fraction": 0.2}}, "not rounds and fraction"),
        ({"when": {"kind": "iterative", "ratios": [0.5, 0.4]}}, "ratios must rise"),
        ({"sparsity": 0.5, "when": {"kind": "iterative", "fraction": 1e-17}}, "greater than or equal to 0.001"),
        ({"sparsity": 0.5, "when": {"kind": "iterative", "rounds": 10**9}}, "less than or equal to 1000"),
        ({"when": {"kind": "iterative", "ratios": "lip"}}, "lip_resnet20"),
        ({"sparsity": 0.5, "when": ROUNDS | {"to": 5}}, "to does nothing with rewind: none"),
        ({"sparsity": 0.5, "when": {"kind": "cubic", "start": 0.8, "end": 0.8}}, "must lie before end"),
        ({"sparsity": 0.5, "when": {"kind": "cubic", "initial": 0.5}}, "must lie below sparsity"),
        ({"sparsity": 0.5, "when": {"kind": "cubic", "retrain": {"keep": "best"}}}, "use keep: last"),
        ({"sparsity": 0.5, "normalise": False}, "normalise belongs to score: sipp"),
        ({"sparsity": 0.5, "samples": 10}, "samples belongs to score: sipp"),
        ({"sparsity": 0.5, "learn": {}}, "learn belongs to score: hydra"),
        ({"sparsity": 0.5, "score": "hydra", "scope": "layer"}, "give learn"),
        ({"sparsity": 0.5, "when": ROUNDS} | HYDRA, "goes with when: oneshot"),
        ({"sparsity": 0.5} | HYDRA | {"scope": "global"}, "say scope: layer"),
        ({"sparsity": 0.5, "count": "all"} | HYDRA, "leave count out"),
        ({"pattern": "2:4"} | HYDRA, "not a pattern"),
        ({"sparsity": 0.5, "scope": "layer", "min_density": 0.1}, "min_density does nothing with scope: layer"),
        ({"pattern": "2:4", "scope": "layer"}, "scope does nothing with pattern"),
        ({"pattern": "2:4", "min_density": 0.1}, "min_density does nothing with pattern"),
        ({"pattern": "2:4", "count": "all"}, "count does nothing with pattern"),
        ({"pattern": "2:4", "when": ROUNDS}, "pattern is made at once"),
        ({"pattern": "2:4", "when": {"kind": "cubic"}}, "pattern is made at once"),
        ({"pattern": "3:5"}, "2:4"),
        ({"sparsity": 0.5, "when": ROUNDS, "repair": True}, "repair does nothing with when: iterative"),
        ({"sparsity": 0.5, "when": {"kind": "cubic"}, "recalibrate": True}, "recalibrate does nothing"),
        ({"sparsity": 0.5, "recalibrate": True}, "recalibrate undoes a repair"),
    ],
)
def test_wishes_that_do_not_go_together_are_refused(keys, words):
    with pytest.raises(ValidationError, match=words):
        Sparsify.parse(keys)


def recipe(folder, *steps):
    (folder / "r.yaml").write_text(RECIPE + "".join(f"  - {step}\n" for step in steps))
    return load_recipe(str(folder / "r.yaml"))


TRAIN = "train: {epochs: 4, lr: 0.2, snapshots: [0, 50]}"
REWIND = "sparsify: {sparsity: 0.5, when: {kind: iterative, rounds: 2, rewind: %s, to: %d}}"


def test_rewinding_repeats_the_training_that_made_the_model(tmp_path):
    step = recipe(tmp_path, TRAIN, REWIND % ("weights", 50)).steps[1].method
    assert (step.when.retrain.epochs, step.when.retrain.lr, step.goes_back_to) == (4, 0.2, 50)
    assert recipe(tmp_path, TRAIN, REWIND % ("rate", 7)).steps[1].method.goes_back_to is None
    named = "sparsify: {preset: lrr_oneshot, sparsity: 0.5, when: {retrain: {epochs: 1}}}"
    assert recipe(tmp_path, TRAIN, named).steps[1].method.when.retrain.epochs == 1


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((TRAIN, REWIND % ("weights", 51)), r"update 51 \(kept: 0, 50\); add `snapshots: \[0, 50, 51\]`"),
        (("train: {epochs: 4}", REWIND % ("weights", 0)), r"update 0 \(kept: none\); add `snapshots: \[0\]`"),
        ((REWIND % ("rate", 0),), "this recipe has 0 train steps"),
        ((TRAIN, TRAIN, REWIND % ("rate", 0)), "this recipe has 2 train steps"),
    ],
)
def test_a_moment_that_nobody_keeps_is_told_before_any_work(tmp_path, steps, words):
    with pytest.raises(RecipeError, match=words):
        recipe(tmp_path, *steps)


@pytest.mark.parametrize("name", sorted(Sparsify.presets))
def test_presets_are_whole(tmp_path, name):
    amount = "" if name in ("asp", "sipp", "wt") else ", sparsity: 0.9"
    step = recipe(tmp_path, TRAIN, f"sparsify: {{preset: {name}{amount}}}").steps[1].method
    assert step.compresses


def test_a_fine_tuning_behind_a_repaired_masking_is_gentle(tmp_path):
    done = recipe(tmp_path, TRAIN, "sparsify: {sparsity: 0.5}", "finetune: {epochs: 1}")
    assert done.steps[2].method.gentle
    done = recipe(tmp_path, TRAIN, "sparsify: {sparsity: 0.5, repair: false}", "finetune: {epochs: 1}")
    assert not done.steps[2].method.gentle


def test_a_ticket_behind_a_masking_would_lose_the_zeros(tmp_path):
    with pytest.raises(RecipeError, match="an earlier step promised zeros"):
        recipe(tmp_path, TRAIN, "sparsify: {sparsity: 0.5}", "ticket: {sparsity: 0.5, epochs: 1}")


def test_a_masking_takes_the_place_of_the_quickstart_s_pruning():
    done = load_recipe("quickstart", ["steps.2={sparsify: {sparsity: 0.6}}", "export=[onnx-compact]"])
    assert [step.name for step in done.steps] == ["train", "distill", "sparsify", "finetune"]


def test_a_gradual_masking_of_binary_weights_is_refused_with_the_recipe(tmp_path):
    with pytest.raises(RecipeError, match="when: cubic masks weights while the model is trained"):
        recipe(tmp_path, TRAIN, "binarise: {epochs: 1}", "sparsify: {preset: gmp, sparsity: 0.5}")


def test_every_score_can_be_asked_for_and_is_there():
    from edgecr.surgery.masking.scores import weight_scores

    asked = get_args(Sparsify.model_fields["score"].annotation)
    assert set(asked) == {*weight_scores, "hydra"}
