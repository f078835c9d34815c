import pytest
import torch
from torch import nn

from edgecr.surgery.changes.mask import WeightMask, set_to_zero
from edgecr.training.loop import fit
from edgecr.training.losses import CrossEntropy
from edgecr.training.masks import Masks
from edgecr.training.observers import Observer
from edgecr.training.optimisers import Descent
from tests.workplace import context, network, options


def half(weight):
    mask = torch.ones_like(weight)
    mask.reshape(-1)[::2] = 0
    return mask


def held(kind=torch.optim.SGD, **keys):
    module = nn.Linear(4, 3)
    optimiser = kind(module.parameters(), lr=0.1, **keys)
    return module, optimiser, Masks(module, optimiser)


@pytest.mark.parametrize(
    ("kind", "keys", "buffers"),
    [
        (torch.optim.SGD, {"momentum": 0.9}, ("momentum_buffer",)),
        (torch.optim.AdamW, {}, ("exp_avg", "exp_avg_sq")),
    ],
)
def test_pruned_entries_lose_weight_gradient_and_momentum(kind, keys, buffers):
    module, optimiser, masks = held(kind, **keys)
    module(torch.ones(2, 4)).sum().backward()
    optimiser.step()
    mask = half(module.weight)
    masks.prune({"weight": mask})
    masks.clear_gradients()
    state = optimiser.state[module.weight]
    for tensor in (module.weight, module.weight.grad, *(state[name] for name in buffers)):
        assert torch.equal(tensor != 0, mask.bool())
    assert (module.bias != 0).all()


def test_a_mask_of_another_shape_is_refused():
    _, _, masks = held()
    with pytest.raises(ValueError, match="weight has the shape"):
        masks.prune({"weight": torch.ones(4)})


def test_masks_change_one_by_one_and_come_back_from_their_tensors():
    module, optimiser, masks = held()
    masks.prune({"weight": half(module.weight)})
    masks.prune({"bias": torch.tensor([1, 0, 1])})
    other = Masks(module, optimiser)
    other.prune(masks.tensors())
    assert {name: mask.tolist() for name, mask in other.tensors().items()} == {
        "weight": [[False, True, False, True]] * 3,
        "bias": [True, False, True],
    }


def test_a_row_is_alive_while_any_entry_is():
    *_, masks = held()
    assert masks.alive("weight") is None
    mask = torch.ones(3, 4)
    mask[0], mask[1, 1:] = 0, 0
    masks.prune({"weight": mask})
    assert masks.alive("weight").tolist() == [False, True, True]


def test_pruned_entries_stay_whatever_the_optimiser_does():
    class Restless(torch.optim.SGD):
        def step(self):
            with torch.no_grad():
                for parameter in self.param_groups[0]["params"]:
                    parameter.add_(1.0)

    module, optimiser, masks = held(Restless)
    masks.prune({"weight": half(module.weight)})
    Descent(module.parameters(), optimiser, None, masks)(module.zero_grad)
    assert torch.equal(module.weight != 0, half(module.weight).bool())


class Watch(Observer):
    """Prunes more after a while, and looks at every update."""

    def __init__(self):
        self.dense = 0

    def after_step(self, session):
        if session.step_number == 7:
            session.masks.prune({"4.weight": half(session.module[4].weight)})
        for name, mask in session.masks.tensors().items():
            self.dense += int(session.module.get_parameter(name)[~mask].count_nonzero())


@pytest.mark.parametrize("sharpness", [None, "sam", "asam", "adasap"])
@pytest.mark.parametrize("optimiser", [{}, {"optimiser": "adamw", "lr": 0.01}])
def test_what_is_pruned_stays_zero_through_a_training(tmp_path, sharpness, optimiser):
    module = network()
    set_to_zero(module, {"0.weight": half(module[0].weight).bool()})
    surgery = [WeightMask.of(module, ["0.weight"])]
    watch = Watch()
    fit(module, options(sharpness=sharpness, **optimiser), CrossEntropy(), context(tmp_path), [watch], surgery=surgery)
    assert watch.dense == 0
    for layer in (module[0], module[4]):
        assert torch.equal(layer.weight != 0, half(layer.weight).bool())
