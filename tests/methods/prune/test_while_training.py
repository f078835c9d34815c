"""Soft masks: the network does without the channels, the weights underneath go on learning, and channels can return."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from edgecr.core.errors import RequestError
from edgecr.methods.prune.while_training import RemovalObserver, RemovalSchedule
from edgecr.surgery.carry_out import carried_out
from edgecr.surgery.planning.widths import Limits, allowed_by
from edgecr.surgery.scoring.scores import ScoringInputs, scores
from edgecr.surgery.tracing.graph import trace_channels
from edgecr.training.loop import fit
from edgecr.training.losses import CrossEntropy
from edgecr.training.masks import PULL, Masks
from edgecr.training.observers import Observer
from edgecr.training.optimisers import Descent
from edgecr.training.sharpness.ascent import Ball, SharpDescent
from tests.workplace import context, network, options, subject

SHAPE = (3, 8, 8)
LIMITS = Limits("off")


def columns(weight, count):
    """A mask that hides the first inputs of a layer."""
    mask = torch.ones_like(weight)
    mask[:, :count] = 0
    return mask


def covered(**keys):
    """A network whose second convolution does not see three of its inputs, and what takes its gradients."""
    module = network().double()
    module[3].p = 0.0
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, **keys)
    masks = Masks(module, optimiser)
    masks.hide({"4.weight": columns(module[4].weight, 3)})
    images, labels = torch.randn(6, *SHAPE, dtype=torch.float64), torch.arange(6) % 3

    def gradients():
        module.zero_grad()
        with masks.applied():
            cross_entropy(module(images), labels).backward()

    return module, optimiser, masks, gradients, (images, labels)


def dense_gradient(module, batch, weight):
    """The gradient of the second convolution where its weight has these values."""
    weight = weight.detach().clone().requires_grad_()
    cross_entropy(functional_call(module, {"4.weight": weight}, (batch[0],)), batch[1]).backward()
    return weight.grad


def test_covered_entries_are_zero_while_the_network_looks_and_themselves_afterwards():
    module, _, masks, _, _ = covered()
    before = module[4].weight.detach().clone()
    with pytest.raises(KeyboardInterrupt), masks.applied():
        assert torch.equal(module[4].weight != 0, columns(before, 3).bool())
        raise KeyboardInterrupt
    assert torch.equal(module[4].weight, before)
    masks.hide({})
    with masks.applied():
        assert torch.equal(module[4].weight, before)


def test_the_gradient_is_the_dense_one_and_a_pull_on_what_is_covered():
    module, optimiser, masks, gradients, batch = covered()
    before, looked = module[4].weight.detach().clone(), []
    mask = columns(before, 3)
    dense = dense_gradient(module, batch, before * mask)
    looks = [lambda: looked.append(module[4].weight.grad.clone())]
    Descent(module.parameters(), optimiser, None, masks, looks)(gradients)
    assert dense[:, :3].abs().min() > 0
    torch.testing.assert_close(looked[0], dense)
    torch.testing.assert_close(module[4].weight.grad, dense + PULL * before * (1 - mask))
    torch.testing.assert_close(module[4].weight, before - 0.1 * module[4].weight.grad)


def test_what_is_covered_has_no_part_in_the_climb():
    module, optimiser, masks, gradients, batch = covered()
    before, mask = module[4].weight.detach().clone(), columns(module[4].weight, 3)
    climb, moved, worst = Ball(module, 0.5), [], []

    def ascent():
        moved.extend(climb())
        worst.extend([copy.deepcopy(module)])
        for (_, change), parameter in zip(moved, worst[0].parameters(), strict=True):
            parameter.data.add_(change)
        return moved

    SharpDescent(Descent(module.parameters(), optimiser, None, masks), ascent, module)(gradients)
    (change,) = (change for parameter, change in moved if parameter is module[4].weight)
    assert torch.equal(change != 0, mask.bool())
    assert torch.linalg.vector_norm(torch.cat([c.flatten() for _, c in moved])).item() == pytest.approx(0.5)
    dense = dense_gradient(worst[0], batch, (before + change) * mask)
    torch.testing.assert_close(module[4].weight.grad, dense + PULL * before * (1 - mask))


class Watch(Observer):
    """Notes what every step chose and does something to the session then."""

    def __init__(self, act=lambda session, plan: None):
        self.plans, self.act, self.seen = [], act, 0

    def chosen(self, planner, number):
        self.plans.append(planner.by_budget("global", {"params": 1 - number * 0.15}))
        return self.plans[-1]

    def after_step(self, session):
        if len(self.plans) > self.seen:
            self.seen = len(self.plans)
            self.act(session, self.plans[-1])


def pruned(folder, watch, score="l2", module=None, beside=(), soft=True):
    """A training that prunes after its second, fourth and sixth update."""
    module = module or subject().module
    graph = trace_channels(module, SHAPE)
    removal = RemovalObserver(
        graph,
        RemovalSchedule(0, 2, 3),
        scores.get(score),
        ScoringInputs(module),
        LIMITS,
        allowed_by(graph, LIMITS),
        watch.chosen,
        by_gradients=score.startswith("taylor"),
        slim=False,
        why="",
        soft=soft,
    )
    fit(module, options(), CrossEntropy(), context(folder), [removal, watch, *beside])
    return module, removal


def difference(module, masks, plan):
    """Returns the relative difference between the network that the session sees and the one without the channels."""
    images = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(3))
    with masks.applied(), torch.no_grad():
        found = module.eval()(images)
        expected = carried_out(module, plan).module.eval()(images)
    module.train()
    return float((found - expected).abs().max() / expected.abs().max())


def gone(plan):
    """Counts the channels that a plan removes."""
    return sum(map(len, plan.removed))


@pytest.mark.parametrize("score", ["l2", "l1_in", "taylor_in"])
def test_the_network_is_the_one_without_the_channels(tmp_path, score):
    differences, hidden = [], []

    def compare(session, plan):
        differences.append(difference(session.module, session.masks, plan))
        hidden.append(len(session.masks.hidden()))

    watch = Watch(compare)
    module, removal = pruned(tmp_path, watch, score)
    assert all(gone(plan) > 0.03 * sum(group.width for group in plan.graph.groups) for plan in watch.plans)
    assert max(differences) < 1e-5
    assert [count > 0 for count in hidden] == [True, True, False]
    slim = carried_out(module, removal.plan())
    assert slim.difference < 1e-5
    assert [len(gone) for gone in removal.dead] == [len(gone) for gone in watch.plans[-1].removed]
    assert sum(map(len, removal.dead)) > 0


def test_with_hard_masks_a_channel_that_matters_again_stays_away(tmp_path):
    """The layers that read what the first step took are made to want it back."""

    def enlarge(session, plan):
        tensors = dict(session.module.named_parameters())
        for group, gone in zip(plan.graph.groups, plan.removed):
            for place in group.reads:
                tensors[place.member.tensor].data[:, place.positions[gone].ravel()] *= 100

    watch = Watch(enlarge)
    pruned(tmp_path, watch, "l1_in", soft=False)
    for before, after in pairwise(watch.plans):
        assert gone(after) > gone(before) > 0
        assert all(set(one) <= set(other) for one, other in zip(before.removed, after.removed))


def test_a_channel_that_matters_again_returns(tmp_path):
    """The channels that the first step hides are made larger underneath, so the second step takes others."""

    def enlarge(session, plan):
        tensors = dict(session.module.named_parameters())
        for group, gone in zip(plan.graph.groups, plan.removed) if len(watch.plans) == 1 else ():
            for place in group.weights:
                tensors[place.member.tensor].data[place.positions[gone].ravel()] *= 100

    watch = Watch(enlarge)
    pruned(tmp_path, watch)
    went, then = ([set(ids) for ids in plan.removed] for plan in watch.plans[:2])
    assert any(went)
    assert not any(one & other for one, other in zip(went, then))
    assert gone(watch.plans[1]) > gone(watch.plans[0])


class Peek(Observer):
    """Notes, each time the network runs while something is hidden, whether it sees zeros there."""

    def __init__(self):
        self.zeros = {True: [], False: []}

    def at_start(self, session):
        def peek(module, _):
            for name, mask in session.masks.hidden().items():
                self.zeros[module.training].append(not module.get_parameter(name)[~mask].any())

        session.module.register_forward_pre_hook(peek)


def test_updates_and_validation_see_the_same_network(tmp_path):
    peek = Peek()
    pruned(tmp_path, Watch(), beside=[peek])
    for zeros in peek.zeros.values():
        assert zeros
        assert all(zeros)


class Between(Observer):
    """Looks at what is hidden after the first step, and at the same one update later."""

    def __init__(self, look):
        self.look, self.looked = look, []

    def after_step(self, session):
        if session.step_number in (2, 3):
            self.looked.append(self.look(session))


def test_hidden_weights_learn(tmp_path):
    def hidden(session):
        tensors = dict(session.module.named_parameters())
        return torch.cat([tensors[name].detach()[~mask] for name, mask in session.masks.hidden().items()])

    between = Between(hidden)
    pruned(tmp_path, Watch(), beside=[between])
    before, after = between.looked
    assert (after / before).std() > 1e-3, "decay alone would shrink all of them by one factor"


def test_gradients_tell_what_would_come_back(tmp_path):
    """Masked channels have an importance of their own, where they are read."""

    def importance(session):
        gone = watch.plans[0].removed
        return torch.cat([session.kept[f"importance/{n}"][ids] for n, ids in enumerate(gone)])

    watch, between = Watch(), Between(importance)
    pruned(tmp_path, watch, "taylor_in", beside=[between])
    nothing, found = between.looked
    assert len(found) > 0
    assert not nothing.any()
    assert found.min() > 0


class Summed(nn.Module):
    """The channels are read by a convolution, and by a sum without any weights."""

    def __init__(self):
        super().__init__()
        self.conv, self.read, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Linear(8, 3)

    def forward(self, images):
        made = self.conv(images).relu()
        return self.head((self.read(made).relu() * made.sum(1, keepdim=True)).mean((2, 3)))


def test_channels_that_more_than_weights_read_are_refused(tmp_path):
    with pytest.raises(RequestError, match=r"masks: soft.*something else reads"):
        pruned(tmp_path, Watch(), module=Summed())
