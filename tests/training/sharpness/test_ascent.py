import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgecr.training.context import Execution
from edgecr.training.loop import fit
from edgecr.training.losses import CrossEntropy
from edgecr.training.masks import Masks
from edgecr.training.optimisers import Descent
from edgecr.training.sharpness.ascent import Ball, NeuronBalls, SharpDescent, StretchedBall, displaced, norm
from edgecr.training.sharpness.neurons import layers_of
from edgecr.training.sharpness.options import Bounds
from tests.workplace import context, dataset, network, options

BOUNDS = Bounds(0.01, 2.0)


def convolutions():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 16, 3),
    ).double()


def backward(module, seed=1):
    torch.manual_seed(seed)
    images, labels = torch.randn(12, 3, 6, 6, dtype=torch.float64), torch.arange(12) % 3
    module.zero_grad()
    loss = functional.cross_entropy(module(images), labels)
    loss.backward()
    return loss


def lengths(tensor):
    return torch.linalg.vector_norm(tensor.flatten(1), dim=1)


def balls(module, bounds=BOUNDS, **keys):
    return NeuronBalls(layers_of(module), lambda: bounds, **keys)


def test_sam_moves_by_rho_along_the_whole_gradient():
    module = convolutions()
    backward(module)
    moves = Ball(module, 0.05)()
    assert norm(change for _, change in moves).item() == pytest.approx(0.05, rel=1e-6)
    slope = norm(p.grad for p in module.parameters())
    for parameter, change in moves:
        torch.testing.assert_close(change, 0.05 * parameter.grad / slope)


def test_parameters_without_gradient_stay():
    module = convolutions()
    module[0].requires_grad_(False)
    backward(module)
    moved = {id(parameter) for parameter, _ in Ball(module, 0.05)()}
    assert id(module[0].weight) not in moved
    assert len(moved) == len(list(module.parameters())) - 1
    assert Ball(nn.Linear(2, 2), 0.05)() == []


def test_asam_is_a_ball_before_it_is_stretched():
    module = convolutions()
    backward(module)
    names = {id(p): name for name, p in module.named_parameters()}
    shrunk = []
    for parameter, change in StretchedBall(module, 0.5, 0.01)():
        weight = names[id(parameter)].endswith("weight")
        shrunk.append(change / (parameter.abs() + 0.01) if weight else change)
    assert norm(shrunk).item() == pytest.approx(0.5, rel=1e-6)


def test_asam_without_eta_does_not_see_how_layers_are_scaled():
    def worst(scale):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(5, 7, bias=False), nn.ReLU(), nn.Linear(7, 3, bias=False)).double()
        with torch.no_grad():
            module[0].weight.mul_(scale)
            module[2].weight.div_(scale)
        images, labels = torch.randn(9, 5, dtype=torch.float64), torch.arange(9) % 3
        functional.cross_entropy(module(images), labels).backward()
        with torch.no_grad():
            for parameter, change in StretchedBall(module, 0.5, 0.0)():
                parameter.add_(change)
        return functional.cross_entropy(module(images), labels).item()

    assert worst(8.0) == pytest.approx(worst(1.0), rel=1e-9)
    assert worst(0.1) == pytest.approx(worst(1.0), rel=1e-9)


def test_the_gradient_of_a_quadratic_is_the_one_at_the_worst_point():
    hessian = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    start = torch.tensor([1.0, -2.0], dtype=torch.float64)
    bowl = nn.Module()
    bowl.w = nn.Parameter(start.clone())

    def gradients():
        bowl.zero_grad()
        loss = 0.5 * bowl.w @ hessian @ bowl.w
        loss.backward()
        return loss.item()

    optimiser = torch.optim.SGD([bowl.w], lr=0.1)
    told = SharpDescent(Descent([bowl.w], optimiser, None), Ball(bowl, 0.3), bowl)(gradients)
    slope = hessian @ start
    expected = start - 0.1 * hessian @ (start + 0.3 * slope / slope.norm())
    torch.testing.assert_close(bowl.w.detach(), expected, rtol=1e-9, atol=0)
    assert told == pytest.approx((0.5 * start @ hessian @ start).item()), "the loss at the point itself"


def test_the_less_important_a_neuron_the_farther_it_moves():
    module = convolutions()
    backward(module)
    ascent = balls(module)
    first, second, linear = ascent.radii(ascent.layers)
    radii, scores = torch.cat([first, second]), torch.cat([lengths(module[0].weight), lengths(module[3].weight)])
    ordered = radii[scores.argsort()]
    assert (ordered[1:] <= ordered[:-1]).all()
    assert (radii.min(), radii.max()) == BOUNDS
    assert torch.equal(linear, torch.full((3,), BOUNDS.smallest, dtype=torch.float64))


def test_each_layer_has_both_bounds_when_compared_on_its_own():
    module = convolutions()
    backward(module)
    ascent = balls(module, scope="layer")
    for radii in ascent.radii(ascent.layers)[:2]:
        assert (radii.min(), radii.max()) == BOUNDS


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_neurons_that_matter_the_same_move_by_the_largest_radius(scope):
    module = convolutions()
    backward(module)
    ascent = balls(module, scope=scope, importance=lambda name, layer: torch.ones(len(layer.weight)))
    assert all((radii == BOUNDS.largest).all() for radii in ascent.radii(ascent.layers))


def test_another_importance_takes_the_place_of_the_norm():
    module = convolutions()
    backward(module)
    latency = {"0.weight": torch.arange(6.0), "3.weight": None, "6.weight": None}
    ascent = balls(module, importance=lambda name, layer: latency[name])
    first, second, _ = ascent.radii(ascent.layers)
    torch.testing.assert_close(first, torch.linspace(2.0, 0.01, 6, dtype=torch.float64))
    assert (second == BOUNDS.smallest).all()


@pytest.mark.parametrize("eta", [None, 0.01])
def test_every_neuron_moves_by_its_own_radius(eta):
    module = convolutions()
    backward(module)
    ascent = balls(module, eta=eta)
    moves = ascent()
    for (parameter, change), radii in zip(moves, ascent.radii(ascent.layers)):
        stretch = 1 if eta is None else parameter.abs() + eta
        torch.testing.assert_close(lengths(change / stretch), radii, rtol=1e-6, atol=0)
    assert len(moves) == 3, "biases and batch norms stay"


@pytest.mark.parametrize("eta", [None, 0.01])
def test_bias_and_batch_norm_can_move_with_their_neuron(eta):
    module = convolutions()
    backward(module)
    layers = layers_of(module, (3, 6, 6))
    ascent = NeuronBalls(layers, lambda: BOUNDS, eta=eta)
    changes = {id(parameter): change for parameter, change in ascent()}
    assert [len(layer.parts) for layer in layers] == [3, 2, 2]
    for layer, radii in zip(layers, ascent.radii(layers)):
        squares = 0
        for part in layer.parts:
            stretched = eta is not None and part.is_weight
            change = changes[id(part.parameter)] / (part.parameter.abs() + eta if stretched else 1)
            squares = squares + change.reshape(len(change), -1).square().sum(1)
        torch.testing.assert_close(squares.sqrt(), radii, rtol=1e-6, atol=0)


@pytest.mark.parametrize("eta", [None, 0.01])
def test_one_neuron_alone_is_sam(eta):
    torch.manual_seed(0)
    module = nn.Conv2d(3, 1, 6, bias=False).double()
    images = torch.randn(5, 3, 6, 6, dtype=torch.float64)
    module(images).square().mean().backward()
    ((_, change),) = NeuronBalls(layers_of(module), lambda: Bounds(0.4, 0.4), eta=eta)()
    ((_, expected),) = (Ball(module, 0.4) if eta is None else StretchedBall(module, 0.4, eta))()
    torch.testing.assert_close(change, expected, rtol=1e-9, atol=0)


def test_pruned_neurons_are_not_compared_and_do_not_move():
    module = convolutions()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    masks = Masks(module, optimiser)
    weakest = lengths(module[3].weight).argmin()
    mask = torch.ones_like(module[3].weight)
    mask[weakest] = 0
    masks.prune({"3.weight": mask})
    with torch.no_grad():
        module[3].bias[weakest] = 1.0  # so that its weights have gradients
    ascent = balls(module, eta=0.01, masks=masks)
    seen = []

    def gradients():
        seen.append(module[3].weight[weakest].abs().max().item())
        return backward(module)

    descend = SharpDescent(Descent(module.parameters(), optimiser, None, masks), ascent, module)
    for _ in range(3):
        descend(gradients)
    first, second, _ = ascent.radii(ascent.layers)
    living = torch.cat([first, second[torch.arange(8) != weakest]])
    assert (living.min(), living.max()) == BOUNDS
    assert (seen, module[3].weight[weakest].abs().max()) == ([0.0] * 6, 0.0)


def test_neurons_of_tied_and_frozen_layers_are_found_once():
    module = convolutions()
    module.append(nn.Linear(3, 3))
    module[7].weight = module[3].weight
    module[0].requires_grad_(False)
    assert [layer.name for layer in layers_of(module)] == ["3.weight", "6.weight"]
    assert [layer.name for layer in layers_of(nn.Linear(2, 2))] == ["weight"]


class Broken(RuntimeError):
    pass


def test_weights_come_back_even_from_a_pass_that_fails():
    module = convolutions()
    before = [p.detach().clone() for p in module.parameters()]
    calls = []

    def gradients():
        calls.append(backward(module))
        if len(calls) == 2:
            raise Broken

    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    with pytest.raises(Broken):
        SharpDescent(Descent(module.parameters(), optimiser, None), Ball(module, 0.5), module)(gradients)
    assert all(map(torch.equal, before, module.parameters()))


def test_running_statistics_are_those_of_one_plain_pass():
    plain, sharp = convolutions(), convolutions()
    plain[1].momentum = sharp[1].momentum = None  # the cumulative average counts passes
    optimiser = torch.optim.SGD(sharp.parameters(), lr=0.1)
    descend = SharpDescent(Descent(sharp.parameters(), optimiser, None), Ball(sharp, 0.5), sharp)
    descend(lambda: backward(sharp))
    backward(plain)
    assert all(map(torch.equal, plain.buffers(), sharp.buffers()))


def trained(folder, **keys):
    module = network()
    fit(module, options(**keys), CrossEntropy(), context(folder))
    return module.state_dict()


@pytest.mark.parametrize(
    "sharpness",
    [
        {"kind": "sam", "rho": 0},
        {"kind": "asam", "rho": 0},
        {"kind": "adasap", "rho_min": 0, "rho_max": 0, "include_bn": True},
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_radius_of_zero_trains_as_without(tmp_path, sharpness, precision):
    plain = trained(tmp_path / "plain", precision=precision, clip_norm=1.0)
    sharp = trained(tmp_path / "sharp", precision=precision, clip_norm=1.0, sharpness=sharpness)
    assert all(torch.equal(plain[name], sharp[name]) for name in plain)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("sharpness", ["sam", "asam", {"kind": "adasap", "rho_max": 0.5, "include_bn": True}])
def test_it_learns(tmp_path, sharpness, precision):
    keys = {"sharpness": sharpness, "precision": precision, "epochs": 8, "lr": 0.1}
    history = fit(network(), options(**keys), CrossEntropy(), context(tmp_path))
    assert history.epochs[-1].loss < 0.7 * history.epochs[0].loss
    assert math.isfinite(history.epochs[-1].loss)


def test_phases_change_the_radius_between_epochs(tmp_path):
    still = [{"epochs": 2, "rho_min": 0, "rho_max": 0}]
    plain = trained(tmp_path / "plain", epochs=2, schedule="constant")
    same = trained(tmp_path / "same", epochs=2, schedule="constant", sharpness={"kind": "adasap", "phases": still})
    assert all(torch.equal(plain[name], same[name]) for name in plain)
    longer = trained(tmp_path / "longer", epochs=3, schedule="constant")
    moved = trained(tmp_path / "moved", epochs=3, schedule="constant", sharpness={"kind": "adasap", "phases": still})
    assert not torch.equal(longer["0.weight"], moved["0.weight"])


@pytest.mark.slow
def test_each_of_several_processes_climbs_on_its_own_images(tmp_path):
    def linear():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))

    data = dataset(train=16, augmentation="none")
    module = linear()
    keys = {"epochs": 1, "schedule": "constant", "momentum": 0, "weight_decay": 0, "sharpness": "sam", "lr": 0.01}
    fit(module, options(**keys), CrossEntropy(), context(tmp_path, data, execution=Execution(devices=2)))

    from edgecr.data.batches import train_batches
    from edgecr.training.inputs import Inputs

    ((_, images, labels),) = train_batches(data.train, 16, 7, 0)
    inputs = Inputs(data.preprocessing, torch.device("cpu")).normalise(images)
    expected, slopes = linear(), []
    for rank in range(2):
        replica = linear()

        def gradients(replica=replica, rank=rank):
            replica.zero_grad()
            functional.cross_entropy(replica(inputs[rank::2]), labels[rank::2]).backward()

        gradients()
        with displaced(Ball(replica, 0.05)()):
            gradients()
        slopes.append([p.grad for p in replica.parameters()])
    with torch.no_grad():
        for parameter, *both in zip(expected.parameters(), *slopes):
            parameter.sub_(0.01 * sum(both) / 2)
    torch.testing.assert_close(module[1].weight, expected[1].weight, rtol=1e-5, atol=1e-7)
