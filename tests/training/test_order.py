"""Models whose code calls ``view`` on a map larger than one pixel are trained, taught and scored like all others."""

import pytest
import torch
from torch import nn

from edgecr.subject import Subject
from edgecr.training.evaluate import accuracy
from edgecr.training.loop import fit
from edgecr.training.losses import CrossEntropy
from edgecr.training.losses.kd import Distillation
from edgecr.training.order import order_for, place
from edgecr.training.sample import TrainingSample
from edgecr.training.sharpness.flatness import flatness
from tests.workplace import context, dataset, network, options


class Viewed(nn.Module):
    """``view`` in the way that many tutorials do it; with ``when`` training, only there."""

    def __init__(self, when=None):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.Dropout(0.2)
        self.head, self.when = nn.Linear(6 * 16, 3), when

    def forward(self, x):
        x = self.drop(self.norm(self.conv(x)).relu())
        plain = self.when is None or (self.when == "training") == self.training
        return self.head(x.view(x.shape[0], -1) if plain else x.flatten(1))


CPU = torch.device("cpu")


def first(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("when", [None, "training", "evaluation"])
def test_a_view_is_given_images_in_standard_order(when):
    module, random = Viewed(when).train(), torch.get_rng_state()
    before = first(module)
    assert place(module, CPU, (8, 8)) == torch.contiguous_format
    assert module.conv.weight.is_contiguous()
    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert order_for(module, (8, 8)) == torch.contiguous_format


def test_all_others_keep_channels_last():
    module = network()
    assert place(module, CPU, (8, 8)) == torch.channels_last
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)


PAIRS = [(Viewed, None), (Viewed, Viewed), (Viewed, network), (network, Viewed)]


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_such_models_are_trained_and_teach(tmp_path, student, teacher):
    torch.manual_seed(0)
    module, data = student(), dataset()
    loss = Distillation(teacher(), 4.0, 0.5) if teacher else CrossEntropy()
    history = fit(module, options(epochs=6, lr=0.1), loss, context(tmp_path, data))
    assert history.epochs[-1].loss < history.epochs[0].loss
    assert accuracy(module, data.test, data.preprocessing) > 0.6


def test_such_models_are_looked_at(tmp_path):
    from edgecr.surgery.scoring.scores import ScoringInputs

    torch.manual_seed(0)
    module, work = Viewed().eval(), context(tmp_path)
    assert flatness(module, work.data, images=16, steps=2).loss > 0
    images = TrainingSample(work.data, 0, order_for(module, (8, 8)), batches=1)
    assert ScoringInputs(module, batches=images).products


def test_a_step_prunes_such_a_model_by_its_gradients(tmp_path, monkeypatch):
    from edgecr.methods import methods
    from edgecr.models import architecture

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "viewed_for_test.py").write_text(VIEWED)
    subject = Subject.create(architecture({"arch": "viewed_for_test:net"}), 3, (8, 8), 0, allow_code=True)
    method = methods.get("prune").parse({"sparsity": 0.5, "score": "taylor", "align": "off"})
    slim = method.apply(subject, context(tmp_path / "step"))
    assert slim.module.conv.weight.shape[0] < 6


VIEWED = """
from torch import nn

class net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.two, self.head = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 4, 1), nn.Linear(64, num_classes)
    def forward(self, x):
        x = self.two(self.conv(x).relu())
        return self.head(x.view(x.shape[0], -1))
"""
