"""What a recipe's mistakes say: the keys that fit what was chosen, and no others."""

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
        ("schedule: {kind: iterative, rounds: 3}", "unknown key. Known: kind, retrain, steps."),
        (
            "schedule: {kind: exponential, rounds: 3}",
            "unknown key. Known: every, kind, masks, retrain, slim, start, steps.",
        ),
        ("schedule: {kind: oneshot, rounds: 3}", "unknown key. Known: kind."),
        ("schedule: {kind: iterative, every: 3}", "this key does not go with the others here"),
        ("schedule: {kind: iterative, retrain: {epoch: 3}}", "unknown key. Did you mean 'epochs'?"),
        ("schedule: {kind: iterative, retrain: {sharpness: {kind: sam, zzz: 1}}}", "unknown key. Known: kind, rho."),
    ],
)
def test_only_keys_of_the_chosen_kind_are_named(tmp_path, prune, known):
    assert known in mistake(tmp_path, prune)
