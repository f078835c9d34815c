import pytest
import torch
from torch.optim import lr_scheduler

from edgecr.training.options import TrainOptions
from edgecr.training.schedules import Steps, factor


def factors(per_epoch=4, **keys):
    options = TrainOptions.parse(keys)
    steps = Steps(per_epoch, per_epoch * options.epochs)
    return [factor(step, steps, options) for step in range(steps.total)]


def torch_factors(make, steps=20):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimiser)
    found = []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return found


def test_cosine_is_torchs():
    expected = torch_factors(lambda o: lr_scheduler.CosineAnnealingLR(o, 20))
    assert factors(epochs=5, schedule="cosine") == pytest.approx(expected)


def test_multistep_is_torchs():
    expected = torch_factors(lambda o: lr_scheduler.MultiStepLR(o, [8, 16], 0.2))
    assert factors(epochs=5, schedule="multistep", milestones=[2, 4], gamma=0.2) == pytest.approx(expected)


def test_poly_is_torchs():
    expected = torch_factors(lambda o: lr_scheduler.PolynomialLR(o, 20, 0.9))
    assert factors(epochs=5, schedule="poly", power=0.9) == pytest.approx(expected)


def test_onecycle_is_torchs():
    expected = torch_factors(lambda o: lr_scheduler.OneCycleLR(o, 1.0, 20, cycle_momentum=False))
    assert factors(epochs=5, schedule="onecycle") == pytest.approx(expected)


def test_warmup_rises_linearly_and_may_be_fractional():
    expected = [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1]
    assert factors(epochs=2, schedule="constant", warmup=0.75) == pytest.approx(expected)


def test_milestones_count_from_the_start_and_the_cosine_from_the_end_of_warmup():
    assert factors(per_epoch=1, epochs=4, schedule="multistep", milestones=[3], warmup=2) == [0.5, 1, 1, 0.1]
    assert factors(per_epoch=1, epochs=4, schedule="cosine", warmup=2) == pytest.approx([0.5, 1, 1, 0.5])


@pytest.mark.parametrize("schedule", ["cosine", "poly", "constant", "onecycle"])
@pytest.mark.parametrize("warmup", [0, 0.5, 1])
def test_factors_stay_between_nothing_and_the_peak(schedule, warmup):
    found = factors(epochs=3, schedule=schedule, warmup=warmup)
    assert all(0 < value <= 1 for value in found)
    assert max(found) == pytest.approx(1)
