import copy

import pytest
import torch
from torch.nn import functional

from edgecr.training.loop import fit
from edgecr.training.losses import CrossEntropy
from edgecr.training.losses.rounded import RoundedLoss, rounded_input, rounded_weight
from edgecr.training.session import TrainingState
from edgecr.weights import hash_tensors
from tests.workplace import context, network, options

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 0.5
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(("bits", "levels"), [(8, 127), (7, 63)])
def test_each_channel_of_a_weight_has_its_own_steps_with_zero_among_them(bits, levels):
    weight = (
        torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(1))
        * torch.logspace(-3, 3, 5)[:, None, None, None]
    )
    weight[2] = 0
    made = rounded_weight(weight, bits)
    largest = weight.abs().flatten(1).amax(1)
    steps = made / torch.where(largest > 0, largest / levels, 1)[:, None, None, None]
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert torch.allclose(made.abs().flatten(1).amax(1), largest)
    assert ((made - weight).abs() <= largest[:, None, None, None] / levels / 2 * 1.001).all()
    assert torch.equal(rounded_weight(-weight, bits), -made)


def test_a_normalisation_may_be_folded_in_afterwards():
    weight, factors = torch.randn(5, 4), torch.tensor([-3.0, 0.01, 1, 7, -0.2])[:, None]
    assert torch.allclose(
        rounded_weight(weight * factors, 8), rounded_weight(weight, 8) * factors, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("low", "high"), [(0.0, 4.0), (1.5, 3.0), (2.0, 0.0), (0.0, 0.0)])
def test_inputs_keep_zero_and_lie_within_their_range(low, high):
    values = torch.linspace(-5, 5, 1001)
    made = rounded_input(values, torch.tensor([low, high]))
    step = (low + high) / 255
    assert len(made.unique()) <= 256
    assert made.min() >= -low - step - 1e-30
    assert made.max() <= high + step + 1e-30
    assert rounded_input(torch.zeros(1), torch.tensor([low, high])).item() == 0
    inside = (values > -low + step) & (values < high - step)
    assert ((made - values)[inside].abs() <= step / 2 * 1.01).all()


def test_it_is_the_inner_loss_of_the_rounded_network():
    model, loss = network().eval(), RoundedLoss(CrossEntropy(), 8)
    model.train()
    with loss.applied(model):
        model(IMAGES)
    model.eval()
    first, second, last = (model[number] for number in (0, 4, 9))
    with torch.no_grad():
        seen = functional.conv2d(
            rounded_input(IMAGES, loss.ranges["0"]), rounded_weight(first.weight, 8), first.bias, padding=1
        )
        seen = functional.relu(model[1](seen))
        seen = functional.relu(
            model[5](functional.conv2d(rounded_input(seen, loss.ranges["4"]), rounded_weight(second.weight, 8)))
        )
        seen = rounded_input(seen.mean((2, 3)), loss.ranges["9"])
        answers = functional.linear(seen, rounded_weight(last.weight, 8), last.bias)
        expected = functional.cross_entropy(answers, TARGETS)
        found, rightness = loss.step(model, [IMAGES], TARGETS)
        plain, _ = CrossEntropy().step(model, [IMAGES], TARGETS)
    assert torch.allclose(found, expected, rtol=1e-5)
    assert torch.equal(rightness, answers.argmax(1) == TARGETS)
    assert not torch.equal(found, plain)


def test_gradients_pass_and_the_parameters_stay_their_own():
    model, loss = network(), RoundedLoss(CrossEntropy(), 8)
    before, names = copy.deepcopy(model.state_dict()), [name for name, _ in model.named_parameters()]
    found, _ = loss.step(model, [IMAGES], TARGETS)
    found.backward()
    assert [name for name, _ in model.named_parameters()] == names
    assert all(torch.equal(before[name], each) for name, each in model.named_parameters())
    assert all(
        each.grad is not None and each.grad.abs().sum() > 0
        for each in (model[0].weight, model[4].weight, model[9].weight)
    )
    assert "weight" not in model[0].__dict__


def test_a_failing_pass_leaves_no_trace():
    model, loss = network(), RoundedLoss(CrossEntropy(), 8)
    with pytest.raises(RuntimeError):
        loss.step(model, [IMAGES[:, :2]], TARGETS)
    assert all("weight" not in layer.__dict__ for layer in model.modules())
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in model.modules())


def test_ranges_follow_training_and_rest_in_evaluation():
    model, loss = network(), RoundedLoss(CrossEntropy(), 8)
    loss.step(model, [IMAGES], TARGETS)
    assert torch.allclose(loss.ranges["0"], torch.stack([-IMAGES.min(), IMAGES.max()]))
    loss.step(model, [IMAGES * 2], TARGETS)
    assert torch.allclose(loss.ranges["0"], torch.stack([-IMAGES.min(), IMAGES.max()]) * 1.05)
    kept = {name: each.clone() for name, each in loss.ranges.items()}
    loss.step(model.eval(), [IMAGES * 9], TARGETS)
    assert all(torch.equal(kept[name], each) for name, each in loss.ranges.items())


def test_a_range_holds_zero_where_no_input_comes_near_it():
    model, loss = network(), RoundedLoss(CrossEntropy(), 8)
    loss.step(model, [IMAGES.abs() + 1], TARGETS)
    assert torch.equal(loss.ranges["0"], torch.stack([torch.tensor(0.0), IMAGES.abs().max() + 1]))


def test_the_bits_of_weights_are_part_of_what_a_training_is():
    eight, seven = (RoundedLoss(CrossEntropy(), bits).identity() for bits in (8, 7))
    assert eight != seven
    assert eight["inner"] == seven["inner"] == CrossEntropy().identity()


class Stop(Exception):
    pass


def test_it_resumes_to_the_same_bits(tmp_path, monkeypatch):
    def loss():
        return RoundedLoss(CrossEntropy(), 8)

    fit(whole := network(), options(), loss(), context(tmp_path / "whole"))
    step = TrainingState.step

    def until(self, images, targets):
        if self.step_number == 5:
            raise Stop
        step(self, images, targets)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(TrainingState, "step", until)
        fit(network(), options(checkpoint_s=1e-9), loss(), context(tmp_path / "stopped"))
    fit(again := network(), options(checkpoint_s=1e-9), loss(), context(tmp_path / "stopped"))
    assert hash_tensors(again.state_dict()) == hash_tensors(whole.state_dict())
    fit(plain := network(), options(), CrossEntropy(), context(tmp_path / "plain"))
    assert hash_tensors(plain.state_dict()) != hash_tensors(whole.state_dict())
