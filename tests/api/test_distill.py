"""`edgecr.distill`: the recipe's training and loss, for two modules in memory."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import edgecr
from edgecr.data.views import LearningData
from edgecr.training.context import StepContext
from tests.workplace import dataset, network

OPTIONS = {"epochs": 2, "batch": 16, "lr": 0.05, "precision": "fp32", "quiet": True, "seed": 5}


def pixels():
    images = dataset(train=50).train
    return images.images(np.arange(50)), images.labels


def distill(student=None, teacher=None, data=None, **options):
    shape = {} if data is not None else {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}
    return edgecr.distill(
        student or network(1),
        teacher or network(2),
        data if data is not None else pixels(),
        **OPTIONS | shape | options,
    )


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_it_trains_as_the_recipes_step_does_bit_by_bit(tmp_path):
    from edgecr.methods.distill import Distill
    from edgecr.training.loop import fit
    from edgecr.training.losses.kd import Distillation

    keys = {name: OPTIONS[name] for name in ("epochs", "batch", "lr", "precision")}
    expected, data = network(1), dataset(train=50, augmentation="none")
    context = StepContext(LearningData.of(data), 5, tmp_path)
    fit(expected, Distill.parse(keys | {"temperature": 2.0}), Distillation(network(2), 2.0, 0.9), context)
    student, history = distill(temperature=2.0)
    assert same(student, expected)
    assert len(history.epochs) == 2
    assert not student.training


def test_both_modules_stay_as_they_are():
    student, teacher = network(1), network(2)
    before = copy.deepcopy(student), copy.deepcopy(teacher)
    trained, _ = distill(student, teacher)
    assert same(student, before[0])
    assert same(teacher, before[1])
    assert student.training
    assert teacher.training
    assert not same(trained, student)


def test_validation_images_are_looked_at_where_they_are_given():
    held_out = dataset().validation
    some = held_out.images(np.arange(20)), held_out.labels
    assert distill().history.epochs[-1].validation is None
    assert distill(validation=some).history.epochs[-1].validation is not None


def test_grey_inputs_can_be_learned_from():
    grey = [nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3)) for _ in range(2)]
    student, history = distill(*grey, data=(torch.rand(20, 1, 8, 8), torch.arange(20) % 3))
    assert student(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    assert np.isfinite(history.epochs[-1].loss)


def test_a_folder_keeps_what_a_stopped_training_needs(tmp_path):
    first = distill(folder=tmp_path / "kd")
    again = distill(folder=tmp_path / "kd")
    assert same(first.module, again.module)
    assert first.history == again.history  # the seconds too: nothing was trained again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": nn.Sequential(nn.Flatten(), nn.Linear(192, 4))}, "student has 3 classes, the teacher 4"),
        ({"teacher": nn.Conv2d(3, 3, 1)}, "the teacher none"),
        ({"data": (torch.rand(8, 3, 8, 8), torch.arange(8))}, "A label is 7.*3 outputs"),
        ({"data": (torch.rand(8, 5, 8, 8), torch.arange(8) % 3)}, "The model fails"),
        ({"optimizer": "adam"}, "Did you mean 'optimiser'"),
        ({"temperature": 0.0}, "temperature: "),
        ({"keep": "best"}, "the data has none"),
        ({"student": None, "teacher": "resnet20"}, "torch.nn.Module is needed here, not str"),
    ],
)
def test_what_cannot_be_done_is_explained(options, message):
    with pytest.raises(edgecr.EdgecrError, match=message) as raised:
        distill(**options)
    assert raised.value.exit_code == 2 or "fails" in message
