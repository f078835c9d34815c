import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgecr.core.errors import WorkError
from edgecr.training.losses import CrossEntropy, Loss
from edgecr.training.sharpness.ascent import Ball
from edgecr.training.sharpness.flatness import flatness, one_step, sharpness, top_eigenvalue
from tests.workplace import dataset, network

HESSIAN = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]], dtype=torch.float64)
NOTHING = [(torch.zeros(2, 1), torch.zeros(2)), (torch.zeros(1, 1), torch.zeros(1))]


class Bowl(nn.Module):
    """A quadratic of its only parameter, whatever the inputs."""

    def __init__(self, hessian=HESSIAN, start=(1.0, -2.0, 0.5)):
        super().__init__()
        self.hessian = hessian
        self.w = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, inputs):
        return 0.5 * self.w @ self.hessian @ self.w


class Itself(Loss):
    def step(self, model, views, targets):
        return model(views[0]), torch.zeros(len(targets))

    def identity(self):
        return {}


def sample(seed=0, count=24):
    torch.manual_seed(seed)
    images, labels = torch.randn(count, 3, 8, 8), torch.randint(0, 3, (count,))
    return [(images[:16], labels[:16]), (images[16:], labels[16:])]


def test_the_rise_of_a_quadratic_keeps_to_its_bounds():
    bowl, rho = Bowl(), 0.3
    slope = (HESSIAN @ bowl.w).norm().item()
    curved = torch.linalg.eigvalsh(HESSIAN).max().item()
    found = sharpness(bowl, Itself(), NOTHING, rho, steps=20)
    assert one_step(bowl, Itself(), NOTHING, rho) <= found <= rho * slope + 0.5 * rho**2 * curved
    at_the_bottom = Bowl(start=(1e-9, 0.0, 1e-9))
    climbed = sharpness(at_the_bottom, Itself(), NOTHING, rho, steps=60)
    assert climbed == pytest.approx(0.5 * rho**2 * curved, rel=1e-3)


def test_one_step_is_the_step_of_sam():
    bowl = Bowl()
    bowl(None).backward()
    ((_, change),) = Ball(bowl, 0.3)()
    there = Bowl(start=(bowl.w.detach() + change).tolist())
    assert one_step(bowl, Itself(), NOTHING, 0.3) == pytest.approx((there(None) - bowl(None)).item(), rel=1e-6)


def test_a_hilltop_has_no_rise():
    top = Bowl(-HESSIAN, (0.0, 0.0, 0.0))
    assert sharpness(top, Itself(), NOTHING, 0.3) == 0
    near = Bowl(-HESSIAN, (0.1, 0.0, 0.0))
    assert one_step(near, Itself(), NOTHING, 3.0) < 0
    assert sharpness(near, Itself(), NOTHING, 3.0, steps=1) == 0


def test_the_rise_grows_with_the_radius():
    module, batches = network(), sample()
    found = [sharpness(module, CrossEntropy(), batches, rho) for rho in (0, 0.01, 0.03, 0.05, 0.1, 0.3, 1.0)]
    assert found[0] == 0
    assert found == sorted(found)
    assert one_step(module, CrossEntropy(), batches, 0.05) <= sharpness(module, CrossEntropy(), batches, 0.05)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_eigenvalue_of_a_quadratic_has_its_sign(sign):
    expected = sign * torch.linalg.eigvalsh(HESSIAN).max().item()
    found = top_eigenvalue(Bowl(sign * HESSIAN), Itself(), NOTHING, tolerance=1e-8)
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_flat_loss_has_no_curvature():
    assert top_eigenvalue(Bowl(0 * HESSIAN), Itself(), NOTHING) == 0

    class Slope(Bowl):
        def forward(self, inputs):
            return self.w.sum()

    assert top_eigenvalue(Slope(), Itself(), NOTHING) == 0


def test_the_eigenvalue_of_a_softmax_regression():
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double()
    batches = [(images.double(), labels) for images, labels in sample()]
    images, labels = (torch.cat(part) for part in zip(*batches))
    weight, bias = module[1].weight.detach(), module[1].bias.detach()
    hessian = torch.autograd.functional.hessian(
        lambda v: functional.cross_entropy(images.flatten(1) @ v[:576].view(3, 192).T + v[576:], labels),
        torch.cat([weight.reshape(-1), bias]),
    )
    found = top_eigenvalue(module, CrossEntropy(), batches, tolerance=1e-7, iterations=500)
    assert found == pytest.approx(torch.linalg.eigvalsh(hessian).abs().max().item(), rel=1e-4)


def test_figures_repeat_and_leave_the_module_as_it_was():
    module, data = network(), dataset()
    module[0].weight.requires_grad_(False)
    module[5].eval()
    module[9].weight.grad = torch.ones(3, 8)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [child.training for child in module.modules()]
    torch.manual_seed(1)
    first = flatness(module, data, images=40)
    torch.rand(1)
    assert flatness(module, data, images=40) == first
    assert flatness(module, data, images=40, seed=1) != first
    assert (first.images, first.rho) == (40, 0.05)
    assert first.rise >= max(first.one_step, 0)
    assert math.isfinite(first.eigenvalue)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert [child.training for child in module.modules()] == modes
    assert torch.equal(module[9].weight.grad, torch.ones(3, 8))
    assert [p.grad is None for p in module.parameters()].count(False) == 1


def test_what_cannot_be_measured_is_told():
    module = network()
    with torch.no_grad():
        module[9].weight.fill_(math.inf)
    with pytest.raises(WorkError, match="the loss is"):
        sharpness(module, CrossEntropy(), sample())
    with pytest.raises(WorkError, match="no parameters that are trained"):
        sharpness(network().requires_grad_(False), CrossEntropy(), sample())
