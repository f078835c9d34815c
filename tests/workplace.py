"""A tiny world to train in: images with a pattern to learn, and a network with everything that has state."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgecr.data.base import Dataset, ImageSet, Preprocessing
from edgecr.data.views import LearningData
from edgecr.training.context import StepContext
from edgecr.training.options import TrainOptions

COLOURS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]])


class Memory(ImageSet):
    """Noisy squares of one colour; the colour is the class."""

    def __init__(self, count, seed, size=8):
        random = np.random.default_rng(seed)
        self.labels = random.integers(0, 3, count)
        noise = random.integers(-30, 56, (count, size, size, 3))
        coloured = (COLOURS[self.labels][:, None, None] + noise).clip(0, 255)
        self.pixels = torch.from_numpy(coloured.astype(np.uint8))

    def images(self, indices):
        return self.pixels[torch.as_tensor(np.asarray(indices))]


def dataset(train=70, size=8, augmentation="crop-flip"):
    sets = Memory(train, 1, size), Memory(20, 2, size), Memory(20, 3, size)
    shape = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3), (size, size))
    return Dataset("colours", ("red", "green", "blue"), *sets, shape, augmentation, f"colours-{train}-{size}")


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Conv2d(8, 8, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def subject(seed=0, **keys):
    from edgecr.models import architecture
    from edgecr.subject import Subject

    return Subject.create(architecture({"arch": "resnet20", "width": 0.25} | keys), 3, (8, 8), seed)


def context(folder, data=None, seed=7, **extra):
    return StepContext(LearningData.of(data or dataset()), seed, Path(folder), **extra)


def options(**keys):
    return TrainOptions.parse({"epochs": 3, "batch": 16, "lr": 0.05, "precision": "fp32"} | keys)


def trusted(path):
    """A device file that the user of this test has trusted; its path."""
    from edgecr.runners.device import load_device
    from edgecr.runners.trust import trust

    trust(load_device(str(path)))
    return path


def planned_by_macs(monkeypatch, folder):
    """Lets ``edgecr.shrink`` plan for multiply-accumulates, and measure quickly: a latency table takes minutes."""
    from edgecr.api import shrinking
    from tests.conftest import QUICK_DEVICE

    (folder / "quick.yaml").write_text(QUICK_DEVICE)
    device, real = str(trusted(folder / "quick.yaml")), shrinking.compress
    changes = ["steps.0.prune.budget={macs: 0.6}", "gates={macs: {ratio: 1.0}}", "robustness.suites=[clean]"]

    def compress(recipe, overrides, **others):
        return real(recipe, overrides=[*overrides, *changes], **(others | {"devices": [device], "threads": 1}))

    monkeypatch.setattr(shrinking, "compress", compress)


def train_once(folder, slow=0.0, **keys):
    """One training in a folder; ``slow`` seconds after each step give a killer time to strike."""
    import time

    from edgecr.training.loop import fit
    from edgecr.training.losses import CrossEntropy
    from edgecr.training.observers import Observer

    class Slow(Observer):
        def after_step(self, session):
            time.sleep(slow)

    module = network()
    history = fit(module, options(**keys), CrossEntropy(), context(folder), [Slow()] if slow else [])
    return module, history


def undecided(module, pixels):
    """The untrained classifier with a last bias at which none of its classes is ahead on these images as a whole."""
    inputs = torch.from_numpy(np.asarray(pixels, np.float32)).permute(0, 3, 1, 2) / 255
    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in imagenet)
    last = [child for child in module.modules() if isinstance(child, nn.Linear)][-1]
    with torch.no_grad():
        last.bias -= module((inputs - mean) / std).mean(0)
    return module


if __name__ == "__main__":
    import json

    torch.set_num_threads(1)
    trained, _ = train_once(sys.argv[1], slow=float(sys.argv[2]), **json.loads(sys.argv[3]))
    from edgecr.weights import write_tensors

    write_tensors(Path(sys.argv[1]) / "result.safetensors", trained.state_dict())


def without_notes(source: Path, target: Path) -> Path:
    """A copy of an ONNX file that does not say how to feed it."""
    import onnx

    model = onnx.load(source)
    del model.metadata_props[:]
    onnx.save(model, target)
    return target
