"""Importance scores of channels; the least important ones are removed first."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from edgecr.core.errors import RequestError
from edgecr.core.registry import Registry
from edgecr.surgery.scoring import taylor
from edgecr.surgery.scoring.inputs import ScoringInputs as ScoringInputs
from edgecr.surgery.scoring.obs import elimination
from edgecr.surgery.scoring.pfp import group_sensitivity, pfp_allocation
from edgecr.surgery.scoring.taylor import Products
from edgecr.surgery.tracing.graph import Group, Place
from edgecr.surgery.tracing.slots import Ids
from edgecr.surgery.tracing.slots import Values as Values
from edgecr.surgery.tracing.trace import TensorMember

Score = Callable[[Group, ScoringInputs], Values]
Allocator = Callable[[Sequence[Group], ScoringInputs], Callable[[float], Ids]]
scores: Registry[Score] = Registry("score")
"""Importance of each channel of a group, by name."""


@scores.register("l2")
def l2(group: Group, evidence: ScoringInputs) -> Values:
    """Euclidean norm of all filters that make the channel, coupled layers together."""
    return np.sqrt(_summed(group.weights, evidence, 2))


@scores.register("l1", "ft")
def l1(group: Group, evidence: ScoringInputs) -> Values:
    """Sum of magnitudes of all filters that make the channel (Li et al. 2017)."""
    return _summed(group.weights, evidence, 1)


@scores.register("l1_in")
def l1_in(group: Group, evidence: ScoringInputs) -> Values:
    """Sum of magnitudes of all weights that read the channel (Humble et al. 2022)."""
    return _summed(taylor.read_places(group), evidence, 1)


@scores.register("random")
def random(group: Group, evidence: ScoringInputs) -> Values:
    """A seeded draw that depends on nothing but the seed and the group's name."""
    return np.random.default_rng([evidence.seed, zlib.crc32(group.name.encode())]).random(group.width)


@scores.register("taylor")
def taylor_weights(group: Group, evidence: ScoringInputs) -> Values:
    """Squared weight times gradient, over all weights that make the channel (Molchanov et al. 2019)."""
    return _averaged(evidence, lambda found: taylor.weight_form(group, found))


@scores.register("taylor_joint")
def taylor_joint(group: Group, evidence: ScoringInputs) -> Values:
    """The same products, summed up before they are squared; zero in front of batch norm, which undoes any scale."""
    return _averaged(evidence, lambda found: taylor.joint_form(group, found))


@scores.register("taylor_gate")
def taylor_gate(group: Group, evidence: ScoringInputs) -> Values:
    """Squared derivative by a gate behind batch norm, divided by the layers that share it."""
    uses = len({place.member.layer for place in taylor.gate_places(group, evidence.module)})
    return _averaged(evidence, lambda found: np.square(taylor.gate(group, evidence.module, found)) / uses)


@scores.register("taylor_bn")
def taylor_bn(group: Group, evidence: ScoringInputs) -> Values:
    """Size of the derivative by such a gate, as HALP takes it (Shen et al. 2022)."""
    return _averaged(evidence, lambda found: np.abs(taylor.gate(group, evidence.module, found)))


@scores.register("taylor_in")
def taylor_in(group: Group, evidence: ScoringInputs) -> Values:
    """Size of the derivative by a gate in front of all readers, as SMCP takes it (Humble et al. 2022)."""
    return _averaged(evidence, lambda found: np.abs(taylor.readers_gate(group, found)))


def _averaged(evidence: ScoringInputs, form: Callable[[Products], Values]) -> Values:
    """The mean over mini-batches of what each one says by itself."""
    mean: Values = np.mean([form(found) for found in evidence.products], axis=0)
    return mean


@scores.register("bn")
def bn(group: Group, evidence: ScoringInputs) -> Values:
    """Size of the batch norms' scales (Liu et al. 2017).

    Channels without any are ranked by L1, brought to the mean of all scales of the model.
    """
    places = [p for p in taylor.normalisations(group, evidence.module) if p.member.tensor.endswith(".weight")]
    if not places:
        sums = l1(group, evidence)
        mean = max(float(sums.mean()), np.finfo(np.float64).tiny)
        levelled: Values = sums * (_usual_scale(evidence) / mean)
        return levelled
    total = np.zeros(group.width)
    for place in places:
        sizes = evidence.tensors[place.member.tensor].detach().abs().double().cpu().numpy()
        total += sizes[place.positions].sum(1)
    return total


def _usual_scale(evidence: ScoringInputs) -> float:
    """The mean size of all scales of a model."""
    norms = [child for child in evidence.module.modules() if isinstance(child, taylor.NORMALISATIONS)]
    scales = [norm.weight.detach().abs().flatten() for norm in norms if norm.weight is not None]
    if not scales:
        raise RequestError("Score bn needs normalisations with learned scales, and this model has none. Use l2.")
    return float(torch.cat(scales).mean())


@scores.register("pfp")
def pfp(group: Group, evidence: ScoringInputs) -> Values:
    """The largest share of any output that hangs on the channel (Liebenwein et al. 2020)."""
    return group_sensitivity(group, evidence.sensitivities).values


@scores.register("obs")
def obs(group: Group, evidence: ScoringInputs) -> Values:
    """The error that the readers cannot make up for when the channel goes, by greedy elimination."""
    return elimination(group, evidence.tensors, evidence.moments, evidence.output_scales)


def pfp_widths(groups: Sequence[Group], evidence: ScoringInputs) -> Callable[[float], Ids]:
    """PFP's own way to share out what goes: every group may err by the same factor."""
    return pfp_allocation([group_sensitivity(group, evidence.sensitivities) for group in groups])


allocators: Mapping[str, Allocator] = {"pfp": pfp_widths}
"""Allocators for ``scope: layer``, by score; all other scores remove the same fraction of every layer."""


def _summed(places: Sequence[Place[TensorMember]], evidence: ScoringInputs, power: int) -> Values:
    """Adds up powers of weights (or their mean, for each channel) over the places of each channel."""
    total = np.zeros(len(places[0].positions))
    for place in places:
        tensor = evidence.tensors[place.member.tensor].detach()
        others = [axis for axis in range(tensor.dim()) if axis != place.member.dim]
        norms = torch.linalg.vector_norm(tensor.float(), power, others).double()
        sizes = (norms**power).cpu().numpy()[place.positions].sum(1)
        total += sizes * (tensor.shape[place.member.dim] / tensor.numel()) if evidence.normalise else sizes
    return total


def ranked(values: Values) -> npt.NDArray[np.int64]:
    """Channels from the least important on; equal scores in order of their index."""
    return np.argsort(values, kind="stable").astype(np.int64)
