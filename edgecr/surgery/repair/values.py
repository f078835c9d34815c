"""The loss of cutting one group to one width, measured: its readers are refitted, and the model is asked.

Values of different groups nearly add up, so that a plan needs no more than these.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.repair.branches import Branch
from edgecr.surgery.repair.least_squares import solved
from edgecr.surgery.repair.moments import Moments, input_moments
from edgecr.surgery.repair.replay import Flow, record, replay
from edgecr.surgery.repair.structure import Structure, structure
from edgecr.surgery.scoring.scores import Values, ranked
from edgecr.surgery.tracing.graph import Group
from edgecr.surgery.tracing.running import running, state_of
from edgecr.surgery.tracing.slots import Ids

KEPT_BYTES = 2**28
"""Memory for refitted readers, which are wanted again for the next chunk of images."""


@dataclass(frozen=True)
class Probe:
    """The images that layers are refitted on, and others that the loss is measured on."""

    fitted: Sequence[Tensor]
    asked: Sequence[Tensor]
    positions: int = 16
    ridge: float = 0.1
    seed: int = 0


Variant = tuple[int, int, Mapping[str, Tensor]]
"""A number, the first operator that changes, and the tensors to put in."""


class PartialSums:
    """Divergences summed up over the first chunks of images; this version forgets them."""

    def known(self, number: int, chunks: int) -> tuple[int, Values]:
        """The chunks that are summed up already, of so many, and a sum for each of so many variants."""
        return 0, np.zeros(number)

    def keep(self, done: int, sums: Values) -> None:
        """Takes the sums over this many chunks."""


class WidthValues:
    """Measures what each width of each group costs; the module is left as it was."""

    def __init__(self, module: nn.Module, groups: Sequence[Group], scores: Sequence[Values], question: Probe) -> None:
        self._module, self._groups, self._question = module, groups, question
        self._orders = [ranked(values) for values in scores]
        self._state = state_of(module)
        self._known: dict[tuple[int, int], dict[str, Tensor]] = {}
        self._spare = KEPT_BYTES

    def losses(
        self, widths: Sequence[Ids], advance: Callable[[], None], sums: PartialSums | None = None
    ) -> list[Values]:
        """The mean divergence from the whole model for each width of each group; it never falls as widths shrink."""
        with running(self._module):
            starts = {self._start(number) for number, own in enumerate(widths) if len(own) > 1}
        ends = np.cumsum([len(own) for own in widths])
        means = self._means(partial(self._narrowed, widths), int(sum(map(len, widths))), starts, advance, sums)
        return [np.maximum.accumulate(own[::-1])[::-1] for own in np.split(means, ends[:-1])]

    def drop_losses(
        self, found: Sequence[Branch], advance: Callable[[], None], sums: PartialSums | None = None
    ) -> list[float]:
        """The mean divergence from the whole model without each of these branches."""
        starts = {branch.start for branch in found}
        means = self._means(partial(self._silenced, found), len(found), starts, advance, sums)
        return [float(mean) for mean in means]

    def _means(
        self,
        variants: Callable[[], Iterator[Variant]],
        number: int,
        starts: set[int],
        advance: Callable[[], None],
        sums: PartialSums | None,
    ) -> Values:
        """The mean divergence of each variant, summed up chunk by chunk; earlier sums are gone on from."""
        sums, asked = sums or PartialSums(), self._question.asked
        done, totals = sums.known(number, len(asked))
        with running(self._module):
            flow = Flow.of(self._module, asked[0][:2])
            for chunk in range(done, len(asked)):
                images = asked[chunk]
                recording = record(self._module, images, flow, starts)
                check_finite(recording.answers)
                for place, start, changes in variants():
                    with _installed(self._state, changes):
                        answers = replay(self._module, images, recording, start)
                    totals[place] += divergence(recording.answers, answers) * len(images)
                    advance()
                sums.keep(chunk + 1, totals)
        return totals / sum(map(len, asked))

    def _silenced(self, found: Sequence[Branch]) -> Iterator[Variant]:
        for place, branch in enumerate(found):
            yield place, branch.start, {name: torch.zeros_like(self._state[name]) for name in branch.silenced}

    def _narrowed(self, widths: Sequence[Ids]) -> Iterator[Variant]:
        place = itertools.count()
        for number, own in enumerate(widths):
            for width, here in zip(own, place):
                if width < self._groups[number].width:
                    yield here, self._start(number), self._remembered(number, int(width))

    def _remembered(self, number: int, width: int) -> Mapping[str, Tensor]:
        """The same changes for every chunk of images, without another refit where memory allows."""
        if (known := self._known.get((number, width))) is not None:
            return known
        found = self._changed(number, width)
        size = sum(tensor.nbytes for tensor in found.values())
        if size <= self._spare:
            self._spare -= size
            self._known[number, width] = found
        return found

    @cached_property
    def _structure(self) -> Structure:
        return structure(self._module, self._question.asked[0][:2])

    @cached_property
    def _moments(self) -> dict[str, Moments]:
        readers = {place.member.tensor for group in self._groups for place in group.reads}
        question = self._question
        return input_moments(self._module, question.fitted, readers, question.positions, question.seed)

    @cached_property
    def _starts(self) -> dict[str, int]:
        """The first operator that applies each weight."""
        found: dict[str, int] = {}
        for number, use in self._structure.uses.items():
            found[use.weight] = min(number, found.get(use.weight, number))
        return found

    def _start(self, number: int) -> int:
        """The first operator whose weight changes with a group's width; the very first where that is not known."""
        names = {place.member.tensor for place in self._groups[number].reads}
        return min((self._starts.get(name, 0) for name in names), default=0)

    def _changed(self, number: int, width: int) -> dict[str, Tensor]:
        """The parameters and statistics of the readers without the least important channels."""
        group, found = self._groups[number], dict[str, Tensor]()
        gone = self._orders[number][: group.width - width]
        read: dict[tuple[str, int], list[Ids]] = {}
        for place in group.reads:
            read.setdefault((place.member.tensor, place.member.dim), []).append(place.positions[gone].ravel())
        for (name, dim), positions in read.items():
            weight, removed = self._state[name].detach(), torch.from_numpy(np.concatenate(positions))
            moments = self._moments.get(name) if dim == 1 else None
            if moments is None:
                found[name] = weight.index_fill(dim, removed.to(weight.device), 0)
                continue
            found[name], shift = self._refitted(weight, moments, removed)
            self._shift(name, shift, found)
        return found

    def _refitted(self, weight: Tensor, moments: Moments, removed: Tensor) -> tuple[Tensor, Tensor]:
        """The weight without some inputs and with the others refitted, and what the mean output loses by it."""
        groups, size = moments.total.shape
        matrix = weight.double().cpu().reshape(groups, len(weight) // groups, -1)
        taps = size // weight.shape[1]
        rows = (removed[:, None] * taps + torch.arange(taps)).flatten()
        gone = torch.zeros(size, dtype=torch.bool)
        gone[rows] = True
        new, covariance, ridge = torch.zeros_like(matrix), moments.covariance, self._question.ridge
        for group in range(groups):
            kept = covariance[group][~gone][:, ~gone]
            cross = covariance[group][~gone][:, gone] @ matrix[group][:, gone].T
            new[group][:, ~gone] = matrix[group][:, ~gone]
            if len(kept):
                check_finite(covariance[group])
                new[group][:, ~gone] += solved(kept, cross, ridge, float(kept.diagonal().mean())).T
        shift = ((matrix - new) @ moments.mean[:, :, None]).flatten()
        return new.reshape(weight.shape).to(weight.device, weight.dtype), shift

    def _shift(self, name: str, shift: Tensor, found: dict[str, Tensor]) -> None:
        """Adds a constant to a reader's outputs, in its bias or in the batch norm behind it."""
        use = next(use for use in self._structure.places if use.weight == name)
        norm, bias = self._structure.places[use].norm, self._structure.biases.get(name, "")
        if self._structure.shared(name):
            return
        if bias and bias not in self._structure.bias_shared:
            old = found.get(bias, self._state[bias].detach())
            found[bias] = old + shift.to(old.device, old.dtype)
        elif not bias and norm in self._structure.norms.values():
            assert norm is not None
            old = found.get(norm.running_mean, self._state[norm.running_mean])
            found[norm.running_mean] = old - shift.to(old.device, old.dtype)


@contextmanager
def _installed(state: Mapping[str, Tensor], changes: Mapping[str, Tensor]) -> Iterator[None]:
    """Puts other values into some tensors for a while."""
    before = {name: state[name].detach().clone() for name in changes}
    try:
        with torch.no_grad():
            for name, value in changes.items():
                state[name].copy_(value)
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                state[name].copy_(value)


def check_finite(numbers: Tensor) -> None:
    """Refuses a model whose numbers are not finite: nothing can be measured against them."""
    if not torch.isfinite(numbers).all():
        raise UnsupportedModel(
            "The model makes numbers of the images that are not finite, so no loss can be measured; look for NaN or "
            "infinite weights, and for divisions by zero."
        )


def divergence(expected: Tensor, given: Tensor) -> float:
    """The mean KL divergence of class probabilities; of other answers the squared error relative to their variance."""
    if expected.dim() == 2 and expected.shape[1] > 1:
        one, other = functional.log_softmax(expected.double(), 1), functional.log_softmax(given.double(), 1)
        return float((one.exp() * (one - other)).sum(1).mean())
    spread = float((expected - expected.mean()).square().mean())
    return float((expected - given).square().mean()) / max(spread, 1e-30)
