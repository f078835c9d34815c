"""The messages for mistakes in a recipe: they name the keys that fit what was chosen, and no others."""

import pytest

from edgecr.core.errors import RecipeError
from edgecr.recipe import load_recipe


def mistake(tmp_path, prune):
    (tmp_path / "r.yaml").write_text(
        f"name: r\nmodel: {{arch: resnet20}}\ndata: {{name: digits}}\nsteps:\n  - train: {{epochs: 1}}\n"
        f"  - prune: {{sparsity: 0.5, {prune}}}\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(tmp_path / "r.yaml"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("prune", "known"),
    [
        ("when: {kind: iterative, rounds: 3}", "unknown key. Known: kind, retrain, steps."),
        (
            "when: {kind: exponential, rounds: 3}",
            "unknown key. Known: every, kind, masks, retrain, slim, start, steps.",
        ),
        ("when: {kind: oneshot, rounds: 3}", "unknown key. Known: kind."),
        ("when: {kind: iterative, every: 3}", "this key does not go with the others here"),
        ("when: {kind: iterative, retrain: {epoch: 3}}", "unknown key. Did you mean 'epochs'?"),
        ("when: {kind: iterative, retrain: {sharpness: {kind: sam, zzz: 1}}}", "unknown key. Known: kind, rho."),
    ],
)
def test_only_keys_of_the_chosen_kind_are_named(tmp_path, prune, known):
    assert known in mistake(tmp_path, prune)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("schedule: {kind: iterative, retrain: {epochs: 2}}", "when"),
        ("preset: halp, schedule: {steps: 3}", "when"),
        ("keep: [conv1]", "exclude"),
        ("batch: 4", "latency_batch"),
    ],
)
def test_an_old_key_of_pruning_is_refused_with_the_new_one(tmp_path, old, new):
    key = old.partition(": ")[0] if "preset" not in old else "schedule"
    told = mistake(tmp_path, old)
    assert f"steps.1.prune.{key}" in told
    assert f"this key is called '{new}' now" in told
    assert "unknown key" not in told


def test_the_old_keys_of_a_training_stay(tmp_path):
    told = mistake(tmp_path, "when: {kind: iterative, retrain: {schedule: cosine, keep: best, batch: 8}}, zzz: 1")
    assert "called" not in told


def test_an_old_key_or_option_ends_with_code_2(edgecr):
    done = edgecr("compress", "quickstart", "--set", "steps.2.prune.keep=[conv1]")
    assert (done.returncode, "'exclude'" in done.stderr) == (2, True), done.stderr
    done = edgecr("compress", "quickstart", "--devices", "2")
    assert (done.returncode, "--train-devices" in done.stderr) == (2, True), done.stderr
