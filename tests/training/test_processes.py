"""Several processes do together what one does alone."""

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.data.batches import Share, eval_batches, train_batches
from edgecr.data.views import LearningData
from edgecr.training.context import Execution
from edgecr.training.evaluate import accuracy, right_answers
from edgecr.training.loop import fit
from edgecr.training.losses import CrossEntropy
from tests.workplace import Memory, context, dataset, options


class Watched(Memory):
    """Images that count how many of them were read."""

    read = 0

    def images(self, indices):
        self.read += len(indices)
        return super().images(indices)


@pytest.mark.parametrize("world", [2, 3])
def test_shares_make_up_each_batch_and_only_the_own_one_is_read(world):
    whole = [batch.indices.tolist() for batch in train_batches(Memory(23, 1), 5, 1, 2)]
    sets = [Watched(23, 1) for _ in range(world)]
    shares = [
        [batch.indices.tolist() for batch in train_batches(images, 5, 1, 2, 0, Share(number, world))]
        for number, images in enumerate(sets)
    ]
    together = [sorted(index for part in parts for index in part) for parts in zip(*shares)]
    assert together == [sorted(batch) for batch in whole]
    assert sum(images.read for images in sets) == 23
    assert max(images.read for images in sets) < 23


def test_shares_of_an_evaluation_add_up():
    images, module = Memory(23, 2), linear()
    parts = [list(eval_batches(images, 4, Share(number, 2))) for number in range(2)]
    seen = np.concatenate([batch.indices for part in parts for batch in part])
    assert sorted(seen) == list(range(23))
    shape = dataset().preprocessing
    right = [int(right_answers(module, images, shape, share=Share(number, 2))) for number in range(2)]
    assert sum(right) / 23 == accuracy(module, images, shape)


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Tanh(), nn.Linear(8, 3))


def trained(folder, module, processes, **keys):
    place = context(folder, dataset(augmentation="none"), execution=Execution(devices=processes))
    return fit(module, options(epochs=2, keep="best", **keys), CrossEntropy(), place)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [5, 16])
def test_two_processes_take_the_steps_of_one(tmp_path, batch):
    """Nothing here depends on who sees which image: no augmentation, no dropout, no batch statistics."""
    alone, together = linear(), linear()
    told = [trained(tmp_path / str(n), each, n, batch=batch) for n, each in ((1, alone), (2, together))]
    for one, two in zip(alone.parameters(), together.parameters()):
        torch.testing.assert_close(two, one, rtol=0, atol=1e-6)
    for one, two in zip(told[0].epochs, told[1].epochs):
        assert two.loss == pytest.approx(one.loss, abs=1e-6)
        assert (two.accuracy, two.validation) == pytest.approx((one.accuracy, one.validation))
    assert told[0].best == told[1].best


class Everyone:
    """An observer that notes in each process what it validated; files are all that comes back."""

    def __init__(self, folder):
        self.folder = folder

    def at_start(self, session):
        pass

    after_step = at_start

    def after_epoch(self, session):
        found = session.history.epochs[-1].validation
        means = session.module[1].running_mean.tolist()
        (self.folder / f"rank-{session.fabric.global_rank}-{session.epoch}").write_text(f"{found} {means}")


@pytest.mark.slow
def test_all_processes_validate_and_agree(tmp_path):
    torch.manual_seed(0)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), *head)
    place = context(tmp_path, execution=Execution(devices=2))
    history = fit(module, options(epochs=2), CrossEntropy(), place, [Everyone(tmp_path)])
    for epoch in (1, 2):
        first, second = ((tmp_path / f"rank-{rank}-{epoch}").read_text() for rank in (0, 1))
        assert first == second
        assert first.startswith(f"{history.epochs[epoch - 1].validation} ")
    data = LearningData.of(dataset())
    assert accuracy(module, data.validation, data.preprocessing) == history.epochs[-1].validation
