"""Processor time of trainings of masked weights and of chosen ones, beside the same training of dense weights.

An update of ResNet-20 and of ResNet-18 for CIFAR-10 (128 random images, one thread) is timed dense, with 90 % of the
weights masked, and with half of them chosen by scores that learn, as they are (edge-popup) or as signs (biprop). Whole
short trainings take turns; a figure is the median over the turns of the median update. Goals: a masked update takes
1.05 times as long as a dense one at most, the others 1.3 times. Two scores of weights have goals in seconds: the
threshold of all 44.7 million weights of a wide ResNet-18 takes less than one, SiPP's sensitivities of ResNet-20 on 183
images (of ``--data``, or random ones) less than 60. ``--quick`` has fewer and shorter turns.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
from _common import Goal, arguments, finish, interleaved, paired_ratio, table
from _random_images import CLASSES, Stopwatch, dataset
from _study import cifar10
from torch import Tensor, nn

from edgecr.data.base import Dataset
from edgecr.data.views import LearningData
from edgecr.models import architecture, build
from edgecr.surgery.changes import WeightMask
from edgecr.surgery.changes.mask import set_to_zero
from edgecr.surgery.latent_weights.scored import scored
from edgecr.surgery.layer_names import weighted_layers
from edgecr.surgery.masking.choice import WeightChoice
from edgecr.surgery.masking.sipp import Looking, read_shares
from edgecr.training.context import StepContext
from edgecr.training.loop import fit
from edgecr.training.losses import CrossEntropy
from edgecr.training.options import TrainOptions
from edgecr.training.sample import TrainingSample

DENSE, MASKED, EDGE_POPUP, BIPROP = "dense", "masked", "edge_popup", "biprop"
LIMITS = {MASKED: 1.05, EDGE_POPUP: 1.3, BIPROP: 1.3}
MODELS = {"resnet20": (8, 16), "resnet18_cifar": (2, 4)}
"""Updates in a turn of each model: quick, full."""
TURNS = (7, 9)
SPARSITY, KEPT = 0.9, 0.5
WIDE = "wide_resnet18_2"
IMAGES = 183
"""Images that SiPP's bound asks for with ResNet-20."""


def made(name: str) -> nn.Module:
    """A fresh network of random weights."""
    torch.manual_seed(0)
    return build(architecture({"arch": name}), CLASSES)


def weights(module: nn.Module) -> dict[str, Tensor]:
    """The weights of all convolutions and linear layers."""
    return {f"{name}.weight": layer.weight.detach() for name, layer in weighted_layers(module).items()}


def smallest(module: nn.Module) -> dict[str, Tensor]:
    """Masks of the weights of smallest size in the whole network."""
    found = weights(module)
    return WeightChoice().masks({name: weight.abs() for name, weight in found.items()}, SPARSITY, found)


@contextmanager
def by_scores(module: nn.Module, *, signs: bool) -> Iterator[None]:
    """The network with its weights chosen by scores that learn in their place."""
    drawn = {name: torch.rand_like(weight) for name, weight in weights(module).items()}
    with scored(module, drawn, KEPT, signs=signs):
        yield


def update(name: str, arm: str, data: Dataset) -> float:
    """Seconds of the processor for one update of one short training."""
    module, watch, surgery = made(name), Stopwatch(time.process_time), list[WeightMask]()
    if arm == MASKED:
        set_to_zero(module, smallest(module))
        surgery = [WeightMask.of(module, weights(module))]
    form = nullcontext() if arm in (DENSE, MASKED) else by_scores(module, signs=arm == BIPROP)
    with tempfile.TemporaryDirectory() as folder, form:
        context = StepContext(LearningData.of(data), 0, Path(folder))
        fit(module, TrainOptions(epochs=1), CrossEntropy(), context, [watch], surgery=surgery)
    return watch.step


def updates(name: str, number: int, turns: int) -> dict[str, float]:
    """Seconds of one update of each kind, and their ratios to a dense one in the same turn."""
    data = dataset(number)
    jobs: dict[str, Callable[[], float]] = {arm: partial(update, name, arm, data) for arm in (DENSE, *LIMITS)}
    interleaved(jobs, 1)  # warm-up: the first turn compiles kernels
    samples = interleaved(jobs, turns)
    seconds = {arm: statistics.median(values) for arm, values in samples.items()}
    return seconds | {f"{arm}_ratio": paired_ratio(samples[arm], samples[DENSE]) for arm in LIMITS}


def threshold(turns: int) -> float:
    """Seconds of the processor for the masks of a large network, in the median."""
    found = weights(made(WIDE))
    scores = {name: weight.abs() for name, weight in found.items()}
    return statistics.median(_seconds(lambda: WeightChoice().masks(scores, SPARSITY, found)) for _ in range(turns))


def sensitivities(folder: Path | None) -> float:
    """Seconds of the processor for SiPP's scores of all weights of ResNet-20."""
    data = cifar10(folder, IMAGES, IMAGES) if folder else dataset(1)
    module, sample = made("resnet20").eval(), TrainingSample(LearningData.of(data), 0, torch.contiguous_format)
    images = (batch for batch, _ in sample)
    return _seconds(lambda: read_shares(module, weighted_layers(module), images, Looking(samples=IMAGES)))


def _seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def main() -> int:
    """Measures every model and both scores, and prints the verdict."""
    asked = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    full = not asked.quick
    found = {name: updates(name, number[full], TURNS[full]) for name, number in MODELS.items()}
    rows = [
        [name, arm, seconds[arm], seconds[f"{arm}_ratio"] if arm in LIMITS else 1.0]
        for name, seconds in found.items()
        for arm in (DENSE, *LIMITS)
    ]
    print(table(["network", "weights", "CPU s an update", "of dense"], rows))
    figures = {f"{name}_{key}": round(value, 4) for name, each in found.items() for key, value in each.items()}
    figures |= {"threshold_s": round(threshold(TURNS[full]), 3), "sipp_s": round(sensitivities(asked.data), 2)}
    goals = [Goal(f"{name}_{arm}_ratio", at_most=limit) for name in found for arm, limit in LIMITS.items()]
    goals += [Goal("threshold_s", at_most=1.0), Goal("sipp_s", at_most=60.0)]
    return finish("masked_step", figures, goals)


if __name__ == "__main__":
    sys.exit(main())
