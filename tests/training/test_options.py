import pytest
from pydantic import ValidationError

from edgecr.training.losses import CrossEntropy
from edgecr.training.options import TrainOptions
from tests.workplace import context, subject


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"epochs": 1.5}, "integer"),
        ({"batch": 1}, "greater than or equal to 2"),
        ({"batch": 0}, "greater than or equal to 2"),
        ({"lr": 0}, "greater than 0"),
        ({"lr": float("nan")}, "finite"),
        ({"lr": "0.1"}, "number"),
        ({"momentum": 1.0}, "less than 1"),
        ({"weight_decay": -1e-4}, "greater than or equal to 0"),
        ({"label_smoothing": 1.0}, "less than 1"),
        ({"clip_norm": 0}, "greater than 0"),
        ({"optimiser": "rmsprop"}, "'sgd'"),
        ({"optimizer": "sgd"}, "not permitted"),
        ({"augment": "mixup"}, "Known: crop-flip, none, shift"),
        ({"precision": "fp16"}, "'auto'"),
        ({"checkpoint_s": 0}, "greater than 0"),
        ({"validate_every": 0}, "greater than or equal to 1"),
        ({"keep": "first"}, "'last'"),
        ({"schedule": "multistep"}, "needs milestones"),
        ({"schedule": "multistep", "milestones": [30, 20]}, "must rise"),
        ({"schedule": "multistep", "milestones": [30, 30]}, "must rise"),
        ({"schedule": "multistep", "milestones": [10], "epochs": 10}, "beyond the last of 10"),
        ({"milestones": [10]}, "belongs to schedule: multistep"),
        ({"power": 2.0}, "belongs to schedule: poly"),
        ({"optimiser": "adam", "momentum": 0.5}, "belongs to optimiser: sgd"),
        ({"nesterov": True, "momentum": 0}, "nesterov needs"),
        ({"warmup": 5, "epochs": 5}, "leaves nothing"),
        ({"loss": "kdd"}, "Did you mean 'kd'"),
        ({"loss": {"kd": {}, "cross_entropy": {}}}, "name exactly one loss; known: cross_entropy, kd"),
        ({"loss": {"kd": {"alpha": 2}}}, "less than or equal to 1"),
        ({"label_smoothing": 0.1, "loss": {"kd": {"label_smoothing": 0.2}}}, "stands here and in loss"),
    ],
)
def test_nonsense_is_refused_with_a_reason(keys, words):
    with pytest.raises(ValidationError, match=words):
        TrainOptions.parse(keys)


def test_every_combination_mistake_is_told_at_once():
    with pytest.raises(ValidationError) as caught:
        TrainOptions.parse({"power": 2.0, "nesterov": True, "momentum": 0, "warmup": 200})
    assert all(word in str(caught.value) for word in ("power", "nesterov", "warmup"))


def test_label_smoothing_beside_the_loss_is_the_losss_own(tmp_path):
    forms = [
        {"label_smoothing": 0.1},
        {"label_smoothing": 0.1, "loss": "cross_entropy"},
        {"loss": {"cross_entropy": {"label_smoothing": 0.1}}},
    ]
    built = [TrainOptions.parse(form).build_loss(subject(), context(tmp_path)) for form in forms]
    assert [loss.identity() for loss in built] == [CrossEntropy(0.1).identity()] * 3
    short = TrainOptions.parse({"label_smoothing": 0.1, "loss": {"kd": {"teacher": "before"}}})
    assert short.build_loss(subject(), context(tmp_path)).hard.label_smoothing == 0.1


def test_the_rate_follows_the_optimiser_until_it_is_given():
    assert TrainOptions().rate == 0.1
    assert TrainOptions(optimiser="adamw").rate == 1e-3
    assert TrainOptions(optimiser="adam", lr=0.02).rate == 0.02
