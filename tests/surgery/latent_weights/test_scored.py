"""Scores that learn past the weights they hide: values, gradients, and how many weights are left."""

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.surgery.latent import stored
from edgecr.surgery.latent_weights.scored import highest, scored
from edgecr.training.optimisers import Descent, build
from tests.workplace import network, options

NAMES = ["0.weight", "4.weight", "9.weight"]


def random_scores(module, names=NAMES):
    return {name: torch.randn_like(module.get_parameter(name)) for name in names}


@pytest.mark.parametrize("keep", [1.0, 0.5, 0.3, 0.1, 0.001])
def test_the_lowest_scores_are_left_out_and_exactly_so_many(keep):
    scores = torch.randn(7, 11)
    (mask,) = highest([scores], keep)
    assert int((~mask).sum()) == int((1 - keep) * 77 + 1e-9)
    if keep < 1:
        assert scores.abs()[~mask].max() <= scores.abs()[mask].min()


def test_among_equals_the_first_ones_go_whatever_their_order_in_memory():
    scores = torch.ones(2, 3, 2, 2)
    scores[1, 0, 0, 0] = -2
    expected = torch.ones(24, dtype=torch.bool)
    expected[:11] = False
    for given in (scores, scores.contiguous(memory_format=torch.channels_last)):
        assert torch.equal(highest([given], 0.54)[0], expected.view(2, 3, 2, 2))


def test_a_share_is_not_off_by_one_for_the_rounding_of_floats():
    for tenths in range(1, 10):
        assert int(highest([torch.rand(1000)], 1 - tenths / 10)[0].sum()) == 1000 - 100 * tenths


def test_all_scores_together_have_one_limit():
    one, other = torch.rand(50), torch.rand(50) + 0.9
    masks = highest([one, other], 0.5)
    assert int(masks[0].sum() + masks[1].sum()) == 50
    assert int(masks[1].sum()) > 40
    limit = max(values.abs()[~mask].max() for values, mask in zip((one, other), masks) if not mask.all())
    assert all(values[mask].min() > limit for values, mask in zip((one, other), masks) if mask.any())


def linear(keep, *, signs, weight=None):
    layer = nn.Linear(6, 4, bias=False)
    if weight is not None:
        layer.weight.data.copy_(weight)
    own, scores = layer.weight.detach().clone(), torch.randn(4, 6)
    return layer, own, scores, scored(layer, {"weight": scores}, keep, signs=signs)


@pytest.mark.parametrize("signs", [False, True])
def test_the_gradient_of_a_score_is_that_of_its_weight_as_if_it_was_seen(signs):
    layer, own, scores, seen = linear(0.4, signs=signs)
    images = torch.randn(5, 6)
    with seen:
        (layer(images) ** 2).sum().backward()
        effective = layer.weight.detach().clone()
        found = stored(layer, "weight")[1].grad
    effective.requires_grad_()
    ((images @ effective.T) ** 2).sum().backward()
    assert torch.allclose(found, scores.sign() * own * effective.grad)


def test_signs_have_one_magnitude_the_nearest_one_of_the_same_sum():
    layer, own, scores, seen = linear(0.5, signs=True)
    masked = own * highest([scores], 0.5)[0]
    with seen:
        effective = layer.weight.detach()
    alpha = effective.abs().max()
    assert torch.equal(effective, masked.sign() * alpha)
    assert torch.allclose(effective.abs().sum(), masked.abs().sum())
    errors = [float(((masked - a * masked.sign()) ** 2).sum()) for a in np.linspace(0.5, 1.5, 41) * float(alpha)]
    assert int(np.argmin(errors)) == 20
    larger, _, _, again = linear(0.5, signs=True, weight=own * 3)
    with again, torch.no_grad():
        stored(larger, "weight")[1].copy_(scores)
    assert torch.allclose(larger.weight.abs().max(), 3 * alpha)


def test_all_weights_or_none_of_a_layer_are_seen_without_a_division_by_zero():
    whole, own, _, seen = linear(1.0, signs=True)
    with seen:
        pass
    assert torch.allclose(whole.weight, own.sign() * own.abs().mean())
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    scores = {"0.weight": torch.full((4, 4), 0.01), "1.weight": torch.ones(4, 4)}
    with scored(module, scores, 0.5, together=True, signs=True):
        module(torch.randn(2, 4)).sum().backward()
    assert not module[0].weight.any()
    assert module[1].weight.all()


def test_nothing_else_can_learn_but_what_is_named_and_everything_can_afterwards():
    module = network()
    with scored(module, random_scores(module), 0.5, beside=[module[1].weight]):
        learning = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert learning == {*(f"{n.split('.')[0]}.parametrizations.weight.original" for n in NAMES), "1.weight"}
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert set(dict(module.named_parameters())) == set(dict(network().named_parameters()))


def test_what_the_network_sees_is_computed_once_a_step(monkeypatch):
    from edgecr.surgery.latent_weights import scored as code

    calls, real = [], code.highest
    monkeypatch.setattr(code, "highest", lambda *given: calls.append(1) or real(*given))
    module = network().eval()
    with scored(module, random_scores(module), 0.5, together=True):
        with torch.inference_mode():
            module(torch.rand(2, 3, 8, 8))
        module.train()(torch.rand(2, 3, 8, 8)).sum().backward()
        assert len(calls) == 1
        descent = Descent(module.parameters(), build(module, options()), None)
        descent(lambda: None)  # with a fused optimiser, which does not tell of its changes by itself
        module(torch.rand(2, 3, 8, 8))
        assert len(calls) == 2
