from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgecr.data.sets import MemorySet
from edgecr.data.views import ProofData
from edgecr.exporters import Artifact
from edgecr.predictors.torch_predictor import TorchPredictor
from tests.exporters.tiny_subjects import Promising, ThreeLayers, export, proof, subject_of


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Promising, Artifact]:
    """The whole tiny network, exported once for all tests."""
    torch.manual_seed(0)
    subject = subject_of(ThreeLayers())
    return subject, export(subject, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def lopsided() -> Promising:
    """A network with one channel that is a thousand times as large as the others, until the next layer undoes it."""
    torch.manual_seed(0)
    subject = subject_of(ThreeLayers())
    first, norm, second = subject.module[0], subject.module[1], subject.module[3]
    norm.bias.data.abs_()
    with torch.no_grad():
        for layer in (norm.weight, norm.bias):
            layer[0] *= 1000
        second.weight[:, 0] /= 1000
    assert first.weight.shape[0] == 8
    return subject


@pytest.fixture(scope="module")
def data(lopsided: Promising) -> ProofData:
    """Images of many colours to calibrate and to judge with; their labels are the network's own answers."""
    random, plain = np.random.default_rng(0), proof()
    colours = random.integers(0, 256, (100, 1, 1, 3)) + random.integers(-30, 30, (100, 8, 8, 3))
    shown = colours.clip(0, 255).astype(np.uint8)
    outputs = TorchPredictor(lopsided.module, plain.preprocessing).predict(shown)["logits"]
    lopsided.module[7].bias.data -= torch.from_numpy(outputs.mean(0))  # else one class answers for all images
    answers = TorchPredictor(lopsided.module, plain.preprocessing).predict(shown)["logits"].argmax(1)
    assert len(np.unique(answers)) > 2
    learnt, judged = MemorySet(shown[:40], answers[:40]), MemorySet(shown[40:], answers[40:])
    return replace(plain, _train=learnt, _validation=judged)
