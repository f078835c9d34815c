"""Scores from gradients: what a gate would feel, computed without building one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgecr.core.errors import RequestError, TrainingDiverged
from edgecr.models import architecture, build
from edgecr.surgery.scoring.scores import ScoringInputs, scores
from edgecr.surgery.scoring.taylor import Products, products
from edgecr.surgery.tracing.graph import Group, trace_channels

SIDE = 6
GRADIENT_SCORES = ("taylor", "taylor_joint", "taylor_gate", "taylor_bn", "taylor_in")


class Gated(nn.Module):
    """Two coupled layers, with or without batch norm, behind gates that only the test knows of."""

    def __init__(self, normalised: bool, bias: bool = False) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 5, 3, padding=1, bias=bias), nn.Conv2d(3, 5, 1, bias=bias)
        self.first, self.second = ((nn.BatchNorm2d(5) if normalised else nn.Identity()) for _ in range(2))
        self.head = nn.Linear(5, 3)
        self.gates = torch.ones(5, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        gates = self.gates.to(x.device)[:, None, None]
        both = self.first(self.one(x)) * gates + self.second(self.two(x)) * gates
        return self.head(both.relu().mean((2, 3)))


class Bare(Gated):
    """The same without the gates."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.first(self.one(x)) + self.second(self.two(x))).relu().mean((2, 3)))


def batches(count: int = 2, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(size, 3, SIDE, SIDE, dtype=torch.float64), torch.arange(size) % 3) for _ in range(count)]


def disturbed(module: nn.Module) -> nn.Module:
    for vector in (p for p in module.parameters() if p.dim() == 1):
        nn.init.uniform_(vector, 0.5, 2)
    return module.double()


def gate_derivatives(module: Gated, given: list[tuple[Tensor, Tensor]]) -> list[np.ndarray]:
    """By how much the loss of each mini-batch changes with the gates, from real ones."""
    gated, found = Gated(isinstance(module.first, nn.BatchNorm2d), module.one.bias is not None).double().train(), []
    gated.load_state_dict(module.state_dict())
    for images, labels in given:
        gated.gates = torch.ones(5, dtype=torch.float64, requires_grad=True)
        functional.cross_entropy(gated(images), labels).backward()
        assert gated.gates.grad is not None
        found.append(gated.gates.grad.numpy())
    return found


def only_group(module: nn.Module) -> Group:
    (group,) = trace_channels(module, (3, SIDE, SIDE)).groups
    return group


@pytest.mark.parametrize(("normalised", "bias"), [(True, False), (False, False), (False, True)])
def test_scores_are_what_a_shared_gate_feels(normalised: bool, bias: bool) -> None:
    torch.manual_seed(0)
    module, given = disturbed(Bare(normalised, bias)), batches()
    evidence, group = ScoringInputs(module, batches=given), only_group(module)
    derivatives = gate_derivatives(module, given)
    assert np.abs(derivatives).min() > 1e-9
    squared = np.mean([np.square(each) for each in derivatives], axis=0)
    np.testing.assert_allclose(scores.get("taylor_gate")(group, evidence), squared / 2, rtol=1e-9)
    for name in ("taylor_bn", "taylor_in"):  # scaling the channels before a rectifier or behind it is the same
        np.testing.assert_allclose(scores.get(name)(group, evidence), np.mean(np.abs(derivatives), 0), rtol=1e-9)


def test_weights_are_squared_one_by_one_or_together_and_batches_apart() -> None:
    torch.manual_seed(0)
    module, given = Bare(normalised=False).double(), batches()
    evidence, group, single, joint = ScoringInputs(module, batches=given), only_group(module), [], []
    for images, labels in given:
        module.zero_grad()
        functional.cross_entropy(module(images), labels).backward()
        rows = [(layer.weight * layer.weight.grad).flatten(1) for layer in (module.one, module.two)]
        together = torch.cat(rows, 1).detach().numpy()
        single.append((together**2).sum(1))
        joint.append(together.sum(1) ** 2)
    module.zero_grad()
    np.testing.assert_allclose(scores.get("taylor")(group, evidence), np.mean(single, 0), rtol=1e-9)
    np.testing.assert_allclose(scores.get("taylor_joint")(group, evidence), np.mean(joint, 0), rtol=1e-9)


@pytest.mark.parametrize("arch", ["resnet20", "torchvision:mobilenet_v2"])
def test_the_module_is_left_as_it_was(arch: str) -> None:
    torch.manual_seed(0)
    module = build(architecture({"arch": arch}), 3)
    module.train()
    module.get_submodule("bn1" if arch == "resnet20" else "features.0.1").eval()
    modes = [child.training for child in module.modules()]
    before = copy.deepcopy(module.state_dict())
    given = [(images.float(), labels) for images, labels in batches(1, 4)]
    evidence = ScoringInputs(module, batches=[(functional.interpolate(x, 32), y) for x, y in given])
    groups = trace_channels(module, (3, 32, 32)).groups
    for name in (*GRADIENT_SCORES, "pfp"):
        for group in groups:
            values = scores.get(name)(group, evidence)
            assert values.shape == (group.width,)
            assert (values >= 0).all()
    after = module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert [child.training for child in module.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_a_training_loop_can_hand_in_its_own_gradients() -> None:
    module, given = Bare(normalised=False).double(), batches(1)
    (expected,) = products(module, given, functional.cross_entropy)
    functional.cross_entropy(module(given[0][0]), given[0][1]).backward()
    named = dict(module.named_parameters())
    found = Products.of(named, {name: p.grad for name, p in named.items()})
    for key, values in expected.sums.items():
        np.testing.assert_allclose(found.sums[key], values, rtol=1e-9)


class Untouchable(Tensor):
    """A gradient that nobody may look at."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in (Tensor.detach, Tensor.shape.__get__):
            return torch.empty(1).as_subclass(cls)
        raise AssertionError(f"{func} looked at a gradient that the score does not need")


@pytest.mark.parametrize("shape", [(7,), (5, 9), (6, 4, 3, 3), (600, 300), (3, 70_000), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_are_the_direct_formula(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, gradient = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
    found = Products.of({"w": weight}, {"w": gradient})
    product = (weight * gradient).numpy()
    for axis in range(min(2, len(shape))):
        others = tuple(other for other in range(len(shape)) if other != axis)
        for sums, direct in ((found.sums, product), (found.squares, product * product)):
            assert sums["w", axis].dtype == np.float64
            np.testing.assert_allclose(sums["w", axis], direct.astype(np.float64).sum(others), rtol=1e-12, atol=1e-12)
    assert Products.of({"w": weight}, {"w": None}).squares["w", 0].tolist() == [0.0] * shape[0]


def test_only_the_gradients_that_a_score_needs_are_looked_at() -> None:
    torch.manual_seed(0)
    module = disturbed(Bare(normalised=True))
    named = dict(module.named_parameters())
    given = batches(1)
    (expected,) = products(module, given, functional.cross_entropy)
    functional.cross_entropy(module.train()(given[0][0]), given[0][1]).backward()
    gradients = {
        name: p.grad if name.startswith(("first", "second")) else torch.empty(1).as_subclass(Untouchable)
        for name, p in named.items()
    }
    evidence, group = ScoringInputs(module), only_group(module)
    evidence.__dict__["products"] = [Products.of(named, gradients)]
    direct = ScoringInputs(module)
    direct.__dict__["products"] = [expected]
    np.testing.assert_allclose(
        scores.get("taylor_bn")(group, evidence), scores.get("taylor_bn")(group, direct), rtol=1e-9
    )
    with pytest.raises(AssertionError, match="does not need"):
        scores.get("taylor")(group, evidence)


def test_scored_mini_batches_keep_no_gradients() -> None:
    (found,) = products(Bare(normalised=True).double(), batches(1), functional.cross_entropy)
    held = [value for part in (vars(found), vars(found.sums), vars(found.squares)) for value in part.values()]
    assert {} in held
    assert not any(isinstance(pair, tuple) for one in held if isinstance(one, dict) for pair in one.values())
    assert found.sums["one.weight", 0].shape == (5,)


def test_channels_that_nothing_depends_on_score_zero() -> None:
    torch.manual_seed(0)
    module = Bare(normalised=False).double()
    with torch.no_grad():
        module.head.weight[:, 2] = 0
    evidence, group = ScoringInputs(module, batches=batches()), only_group(module)
    for name in GRADIENT_SCORES:
        values = scores.get(name)(group, evidence)
        assert values[2] == 0 < np.delete(values, 2).min()


def test_without_images_the_score_is_refused() -> None:
    module = Bare(normalised=True)
    for name in (*GRADIENT_SCORES, "pfp"):
        with pytest.raises(RequestError, match="needs training or calibration images"):
            scores.get(name)(only_group(module), ScoringInputs(module))


class Summed(nn.Module):
    """Nothing with weights reads the channels of the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.two(x) * self.one(x).sum(1, keepdim=True)).mean((2, 3)))


def test_scores_of_readers_need_some() -> None:
    module = Summed().double()
    (group,) = (group for group in trace_channels(module, (3, SIDE, SIDE)).groups if group.name == "one")
    for name in ("taylor_in", "l1_in"):
        with pytest.raises(RequestError, match="No weights read the channels of one"):
            scores.get(name)(group, ScoringInputs(module, batches=batches()))


def test_gradients_that_are_not_finite_stop_the_scoring() -> None:
    module = Bare(normalised=False).double()
    with torch.no_grad():
        module.one.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(TrainingDiverged, match="not finite"):
        scores.get("taylor")(only_group(module), ScoringInputs(module, batches=batches()))
