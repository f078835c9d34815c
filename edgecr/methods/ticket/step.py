"""Carries out the search for a ticket: a fresh random network, scores that learn, and what they leave."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from edgecr.core.errors import RequestError
from edgecr.core.seeds import derive_seed
from edgecr.methods.ticket.options import TicketOptions
from edgecr.methods.ticket.record import NAME, TicketRecord
from edgecr.subject import Subject
from edgecr.surgery.changes.base import Change
from edgecr.surgery.changes.binary import BinaryWeights
from edgecr.surgery.changes.mask import WeightMask
from edgecr.surgery.latent_weights.scored import Ranking, scored
from edgecr.surgery.layer_names import norm_parameters, normalisations, weighted_layers
from edgecr.training.chance import by_chance
from edgecr.training.context import StepContext
from edgecr.training.loop import fit
from edgecr.training.observers import Observer
from edgecr.training.session import TrainingState

FIRST_SEED = 3
"""Seeds below that are those of the network itself."""


def found(method: TicketOptions, subject: Subject, context: StepContext) -> Subject:
    """The ticket in a random network of the subject's structure, which teaches nothing unless the loss asks it."""
    method.refuse_misplaced(subject.promise(allow_code=context.execution.allow_code).figures)
    context.refuse_several_devices("A ticket is found")
    loss = method.build_loss(subject, context)
    ticket = random_network(method, subject, context)
    module = ticket.module
    names, told = [f"{layer}.weight" for layer in _searched(method, module)], _told(method, module)
    for text in ("The trained weights are thrown away: the ticket is found in random ones.", *told.values()):
        context.monitor.say(text)
    scores = {
        name: first_scores(module.get_parameter(name), context.seed, number)
        for number, name in enumerate(names, FIRST_SEED)
    }
    learned = norm_parameters(module) if method.affine == "learned" else ()
    together, signs = method.scope == "global", method.algorithm == "biprop"
    with scored(module, scores, 1 - method.sparsity, together=together, signs=signs, beside=learned) as rankings:
        ramp = [_Ramp(method, rankings)] if method.ramp_epochs else []
        history = fit(module, method, loss, context, ramp, surgery=subject.surgery)
    _record(method, module, names, told, by_chance(history, method.keep, context), context)
    return ticket.with_changes(*_changes(module, names, signs=signs))


def random_network(method: TicketOptions, subject: Subject, context: StepContext) -> Subject:
    """The subject's structure with random weights, which depend on the seed alone; biases are 0, norms neutral."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(context.seed, 1))
        module = subject.skeleton(allow_code=context.execution.allow_code)
    random = torch.Generator().manual_seed(derive_seed(context.seed, 2))
    share = {"none": 1.0, "keep": 1 - method.sparsity, "legacy": method.sparsity}[method.scale_fan]
    searched = weighted_layers(module, method.exclude)
    with torch.no_grad():
        for name, layer in weighted_layers(module, shared_too=True).items():
            left = layer.weight[0].numel() * (share if name in searched else 1.0)
            drawn = torch.randn(layer.weight.shape, generator=random)
            drawn = drawn.sign() if method.init == "signed_constant" else drawn
            layer.weight.copy_(drawn * math.sqrt(2 / left))
            if layer.bias is not None:
                layer.bias.zero_()
        for norm in normalisations(module):
            for parameter, value in zip((norm.weight, norm.bias), (1.0, 0.0)):
                if parameter is not None:
                    parameter.fill_(value)
    return subject.with_module(module)


def first_scores(weight: Tensor, *seed: int) -> Tensor:
    """Scores before any learning: evenly distributed, as those of the papers."""
    random = torch.Generator().manual_seed(derive_seed(*seed))
    bound = 1 / math.sqrt(weight[0].numel())
    return (torch.rand(weight.shape, generator=random) * 2 - 1) * bound


def _searched(method: TicketOptions, module: nn.Module) -> list[str]:
    """The layers that lose weights."""
    layers = weighted_layers(module, method.exclude)
    if not layers:
        raise RequestError("exclude leaves no layer in which a ticket could be found; exclude less.")
    turned = [name for name, layer in layers.items() if isinstance(layer, _ConvTransposeNd)]
    if turned and method.algorithm == "biprop":
        raise RequestError(f"{turned[0]} is a transposed convolution, which cannot be binary; name it in exclude.")
    return list(layers)


def _told(method: TicketOptions, module: nn.Module) -> dict[str, str]:
    """The parameters that are no weights, and what becomes of them."""
    layers, affine = weighted_layers(module, shared_too=True).values(), norm_parameters(module)
    biases = [layer.bias for layer in layers if layer.bias is not None]
    known = {id(parameter) for parameter in (*affine, *biases, *(layer.weight for layer in layers))}
    others = [name for name, parameter in module.named_parameters() if id(parameter) not in known]
    told = {}
    if biases:
        told["biases"] = f"{len(biases)} biases of layers are 0 and do not learn."
    if affine and method.affine == "frozen":
        told["norms"] = "Scales and shifts of normalisations are 1 and 0; with affine: learned they would learn."
    if others:
        told["other parameters"] = f"{len(others)} other parameters stay as they were drawn: {', '.join(others[:3])}."
    return told


class _Ramp(Observer):
    """Raises the sparsity from epoch to epoch."""

    def __init__(self, method: TicketOptions, rankings: Sequence[Ranking]) -> None:
        self._method, self._rankings = method, rankings

    def at_start(self, session: TrainingState) -> None:
        """Goes on where an earlier attempt stopped."""
        self._set(session.epoch)

    def after_epoch(self, session: TrainingState) -> None:
        """Sets the share of the next epoch; the finished ticket has the last one's."""
        self._set(session.epoch)

    def _set(self, epoch: int) -> None:
        for ranking in self._rankings:
            ranking.keep = 1 - self._method.sparsity_in(epoch)


def _changes(module: nn.Module, names: Sequence[str], *, signs: bool) -> list[Change]:
    masked = WeightMask.of(module, names)
    binary = [BinaryWeights(tensors=tuple(names), scale="tensor")] if signs else []
    return [*([masked] if masked.tensors else []), *binary]


def _record(
    method: TicketOptions,
    module: nn.Module,
    names: Sequence[str],
    told: dict[str, str],
    warning: str,
    context: StepContext,
) -> None:
    weights = {name.removesuffix(".weight"): module.get_parameter(name) for name in names}
    before = {layer: weight.numel() for layer, weight in weights.items()}
    after = {layer: int(weight.count_nonzero()) for layer, weight in weights.items()}
    sparsity = 1 - sum(after.values()) / sum(before.values())
    record = TicketRecord(
        algorithm=method.algorithm,
        init=method.init,
        sparsity=sparsity,
        before=before,
        after=after,
        changed=told,
        warning=warning,
    )
    context.record(NAME, record)
    context.monitor.say(f"The ticket has {sum(after.values()):,} weights; {sparsity:.2%} are removed.")
    if warning:
        context.monitor.warn(f"{warning}. Give it more epochs, a wider model or less sparsity.")
