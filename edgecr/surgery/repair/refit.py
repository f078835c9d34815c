"""One pass front to back over a cut model: each layer is refitted to what it answered before the cut.

A layer sees the inputs of the cut model as it is by then, so a refit also makes up for what earlier layers still get
wrong, and the last layer of a residual branch makes up for its shortcut. No labels and no gradients are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from edgecr.core.errors import UnsupportedModel
from edgecr.core.progress import Bar, Monitor
from edgecr.surgery.changes.cut import ChannelCut, as_positions
from edgecr.surgery.repair.least_squares import Fit, fit, too_large
from edgecr.surgery.repair.lockstep import Lockstep
from edgecr.surgery.repair.rows import input_rows, output_rows, places, positions
from edgecr.surgery.repair.stream import NormCall, OperatorCall, Stream, run, state_of
from edgecr.surgery.repair.structure import Structure, Use, structure
from edgecr.surgery.tracing.running import running

CHUNK = 64
"""Images that go through the model together, and share their positions."""
UNCHANGED = 1e-10
"""Share of an output's square that rounding explains: a layer that errs less is left as it is, to the bit."""
_DEAF = 1e-2
"""Scale of a batch norm below which a channel cannot make up for its shortcut."""


@dataclass(frozen=True)
class Sample:
    """The images and settings of a repair."""

    images: Sequence[Tensor]
    """Normalised images in chunks."""
    positions: int = 16
    """Output positions that are looked at in each image."""
    ridge: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Refitted:
    """One layer's squared error on the sample, relative to the variance of its outputs."""

    layer: str
    before: float
    after: float


@dataclass(frozen=True)
class Repair:
    """What a repair did, layer by layer in running order."""

    layers: tuple[Refitted, ...]
    skipped: Mapping[str, str]
    """Layers that were not repaired, and why."""


def repair(
    dense: nn.Module,
    slim: nn.Module,
    cuts: Sequence[ChannelCut],
    sample: Sample,
    free: Mapping[str, Tensor] | None = None,
    monitor: Monitor | None = None,
) -> Repair:
    """Refits the layers of ``slim``, which ``cuts`` made of ``dense``, in place.

    ``free`` marks the entries of a weight that may be used, where a mask forbids others.
    """
    first = sample.images[0][:2]
    with running(dense), running(slim):
        whole, cut = structure(dense, first), structure(slim, first)
        work = _Work(dense, slim, whole, cut, kept_outputs(dense, cuts), sample, dict(free or {}))
        steps = len(sample.images) + len(cut.uses)
        with (monitor or Monitor()).bar("Repairing layers", steps) as bar:
            work.bar = bar
            work.look()
            work.refit()
    return Repair(tuple(work.done.values()), {**cut.skipped, **work.skipped})


def kept_outputs(dense: nn.Module, cuts: Sequence[ChannelCut]) -> dict[str, Tensor]:
    """For each weight that lost outputs the ones that are left, as positions in the dense weight."""
    kept: dict[str, np.ndarray] = {}
    widths = {name: tensor.shape[0] for name, tensor in state_of(dense).items() if tensor.dim() > 1}
    for cut in cuts:
        for one in cut.tensors:
            if one.dim == 0 and one.tensor in widths:
                left = kept.get(one.tensor, np.arange(widths[one.tensor]))
                kept[one.tensor] = np.delete(left, as_positions(one.removed))
    return {name: torch.from_numpy(left) for name, left in kept.items()}


@dataclass
class _Brought:
    """What one chunk of images hands over at one layer: its inputs, and what its shortcut adds."""

    rows: list[Tensor]
    """For each application of the layer."""
    other: Tensor | None


@dataclass
class _Work:
    """A repair on its way."""

    dense: nn.Module
    slim: nn.Module
    whole: Structure
    cut: Structure
    kept: Mapping[str, Tensor]
    sample: Sample
    free: Mapping[str, Tensor]
    bar: Bar = field(default_factory=Bar)
    outputs: dict[Use, list[Tensor]] = field(default_factory=dict)
    """Answers of the dense model's layers at the outputs that are left, by chunk."""
    others: dict[Use, list[Tensor]] = field(default_factory=dict)
    """What is added to the branches that end there, by chunk."""
    available: dict[Use, int] = field(default_factory=dict)
    """Positions that each layer answers for an image."""
    done: dict[str, Refitted] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    touched: bool = False
    """True once a layer was changed: the statistics of what follows are no longer the dense model's."""

    def __post_init__(self) -> None:
        self.state = state_of(self.slim)
        dense = state_of(self.dense)
        self.places = {use: number for number, use in self.whole.uses.items()}
        for use in self.cut.uses.values():
            left = len(self.kept[use.weight]) if use.weight in self.kept else len(dense[use.weight])
            if use not in self.places or left != len(self.state[use.weight]):
                raise UnsupportedModel(f"{use.layer} is not the layer that the cut left; nothing can be repaired.")

    # The dense model's answers.

    def look(self) -> None:
        """Runs the dense model over the sample and keeps what its layers answered."""
        for chunk, images in enumerate(self.sample.images):
            run(self.dense, images, _Look(self, chunk, len(images)))
            self.bar.advance()

    def chosen(self, use: Use, chunk: int, available: int) -> Tensor:
        """The positions of a layer that are looked at."""
        return positions(use, chunk, self.sample.positions, available, self.sample.seed)

    # The cut model's layers.

    def refit(self) -> None:
        """Runs all chunks of the sample through the cut model in step, refitting each layer on the way."""
        together: Lockstep[Any] = Lockstep(len(self.sample.images))

        def job(chunk: int, images: Tensor) -> None:
            run(self.slim, images, _Refit(self, chunk, images, together))

        together.run([lambda n=n, part=part: job(n, part) for n, part in enumerate(self.sample.images)])  # type: ignore[misc]

    def solve(self, use: Use, groups: int, brought: Sequence[_Brought]) -> None:
        """Refits one layer to all chunks."""
        self.bar.advance()
        weight = self.state[use.weight]
        place = self.cut.places[use]
        matrix = weight.detach().float().cpu().flatten(1)
        rows = sum(len(part) for one in brought for part in one.rows)
        if too_large(rows, matrix.shape[1]):
            self.skipped[use.layer] = f"{matrix.shape[1]:,} inputs are too many to solve for"
            return
        uses = [Use(use.weight, number) for number in range(len(brought[0].rows))]
        inputs = [part for one in brought for part in one.rows]
        wanted = [self.outputs[each][chunk] for chunk in range(len(brought)) for each in uses]
        wanted = self._with_shortcut(use, wanted, brought) if len(uses) == 1 else wanted
        bias, shifts = self._bias(use), self._may_shift(use)
        high, wide = len(matrix) // groups, weight.shape[1]
        changes, shift, before, after = [], [], 0.0, 0.0
        for group in range(groups):
            out, read = slice(group * high, (group + 1) * high), slice(group * wide, (group + 1) * wide)
            own = [part[:, read].flatten(1) for part in inputs]
            residuals = [want[:, out] - part @ matrix[out].T - bias[out] for want, part in zip(wanted, own)]
            found = self._fitted(use, own, residuals, out, shifts)
            changes.append(found.change.T)
            shift.append(found.shift)
            before, after = before + found.before, after + found.after
        squares, variance = _sizes(wanted)
        if not np.isfinite(before):
            raise UnsupportedModel(
                f"{use.layer} reads or answers values that are not finite numbers: it cannot be repaired."
            )
        if before <= UNCHANGED * squares:
            return
        self._write(use, place.norm, torch.cat(changes).reshape(weight.shape), torch.cat(shift), shifts)
        self.done[use.layer] = Refitted(use.layer, before / variance, after / variance)
        self.touched = True

    def _fitted(self, use: Use, own: list[Tensor], residuals: list[Tensor], out: slice, shifts: bool) -> Fit:
        """The fit of one group of outputs; outputs that may use other inputs are fitted apart."""
        ridge, free = self.sample.ridge, self.free.get(use.weight)
        if free is None:
            return _finite(use, own, residuals, ridge, shifts)
        masks = free[out].flatten(1).bool().cpu()
        change = torch.zeros(own[0].shape[1], len(masks))
        shift, before, after = torch.zeros(len(masks)), 0.0, 0.0
        patterns, which = torch.unique(masks, dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            outputs = (which == number).nonzero().flatten()
            columns = pattern.nonzero().flatten()
            some = [part[:, outputs] for part in residuals]
            found = _finite(use, [part[:, columns] for part in own], some, ridge, shifts)
            change[columns[:, None], outputs] = found.change
            shift[outputs] = found.shift
            before, after = before + found.before, after + found.after
        return Fit(change, shift, before, after)

    def _with_shortcut(self, use: Use, wanted: list[Tensor], brought: Sequence[_Brought]) -> list[Tensor]:
        """What the last layer of a branch has to answer so that the sum behind it is the dense model's."""
        if use not in self.others or brought[0].other is None:
            return wanted
        norm, scale = self.cut.places[use].norm, torch.ones(())
        if norm is not None:
            scale = self.state[norm.weight] / torch.sqrt(self.state[norm.running_var] + norm.eps)
        scale = scale.detach().float().cpu()
        found = []
        for want, before, one in zip(wanted, self.others[use], brought):
            assert one.other is not None
            gap = before - one.other
            found.append(want + torch.where(scale.abs() > _DEAF, gap / scale, torch.zeros_like(gap)))
        return found

    def _bias(self, use: Use) -> Tensor:
        name = self.cut.biases.get(use.weight, "")
        own = self.state[name].detach().float().cpu() if name else torch.zeros(())
        return own.expand(len(self.state[use.weight]))

    def _may_shift(self, use: Use) -> bool:
        """True where a constant can be added to each output: in a bias of its own, or in the batch norm behind."""
        bias = self.cut.biases.get(use.weight, "")
        if bias:
            return bias not in self.cut.bias_shared
        norm = self.cut.places[use].norm
        return norm in self.cut.norms.values() and not self.cut.shared(use.weight)

    def _write(self, use: Use, norm: NormCall | None, change: Tensor, shift: Tensor, shifts: bool) -> None:
        with torch.no_grad():
            weight, bias = self.state[use.weight], self.cut.biases.get(use.weight, "")
            weight.add_(change.to(weight.device, weight.dtype))
            if shifts and bias:
                self.state[bias].add_(shift.to(weight.device, weight.dtype))
            elif shifts and norm is not None:
                mean = self.state[norm.running_mean]
                mean.sub_(shift.to(mean.device, mean.dtype))

    def take_statistics(self, norm: NormCall, parts: Sequence[Tensor]) -> None:
        """Gives a batch norm the statistics of the sample, and scales that keep its function the same."""
        count, total, squares = torch.stack(list(parts)).sum(0)
        if not self.touched or count[0] < 2:
            return
        now = total / count
        spread = ((squares - count * now.square()) / (count - 1)).clamp_min(0)
        weight, bias = self.state[norm.weight], self.state[norm.bias]
        mean, var = self.state[norm.running_mean], self.state[norm.running_var]
        with torch.no_grad():
            scale = weight.double().cpu() / torch.sqrt(var.double().cpu() + norm.eps)
            offset = bias.double().cpu() - scale * mean.double().cpu()
            weight.copy_(scale * torch.sqrt(spread + norm.eps))
            bias.copy_(offset + scale * now)
            mean.copy_(now)
            var.copy_(spread)


def _finite(use: Use, own: list[Tensor], residuals: list[Tensor], ridge: float, shifts: bool) -> Fit:
    try:
        return fit(own, residuals, ridge, shift=shifts)
    except FloatingPointError as error:
        raise UnsupportedModel(f"{use.layer} cannot be repaired: {error}.") from error


def _sizes(wanted: Sequence[Tensor]) -> tuple[float, float]:
    """The sum of squares of some rows, and of their distances from their means."""
    rows = sum(len(part) for part in wanted)
    total = torch.stack([part.sum(0, dtype=torch.float64) for part in wanted]).sum(0)
    squares = sum(float(part.double().square().sum()) for part in wanted)
    return squares, max(squares - float((total.square() / rows).sum()), 1e-30)


class _Look(Stream):  # type: ignore[no-untyped-call]
    """Keeps what the dense model's layers answer to one chunk."""

    def __init__(self, work: _Work, chunk: int, images: int) -> None:
        super().__init__(state_of(work.dense))
        self._work, self._chunk, self._images = work, chunk, images
        self._cut = set(work.cut.uses.values())
        self._waiting: dict[int, list[Use]] = {}
        for use, place in work.whole.places.items():
            if place.other is not None and use in self._cut and work.cut.places[use].other is not None:
                self._waiting.setdefault(place.other, []).append(use)

    @override
    def after(self, call: OperatorCall, out: Any) -> None:
        for waiting in self._waiting.get(call.number, ()):
            self._keep(self._work.others, waiting, _first(out), convolution=_first(out).dim() > 2)
        use = self._work.whole.uses.get(call.number)
        if use is not None and use in self._cut:
            assert call.layer is not None
            convolution = bool(call.layer.geometry)
            self._work.available[use] = places(out, self._images, convolution=convolution)
            self._keep(self._work.outputs, use, out, convolution=convolution)

    def _keep(self, into: dict[Use, list[Tensor]], use: Use, out: Tensor, *, convolution: bool) -> None:
        chosen = self._work.chosen(use, self._chunk, places(out, self._images, convolution=convolution))
        rows = output_rows(out, self._images, chosen, convolution=convolution)
        kept = self._work.kept.get(use.weight)
        into.setdefault(use, []).append(rows if kept is None else rows[:, kept])


class _Refit(Stream):  # type: ignore[no-untyped-call]
    """Runs one chunk through the cut model, and hands over what each layer reads before the layer runs."""

    def __init__(self, work: _Work, chunk: int, images: Tensor, together: Lockstep[Any]) -> None:
        super().__init__(work.state)
        self._work, self._chunk, self._images, self._together = work, chunk, images, together
        self._others: dict[Use, Tensor] = {}
        self._waiting: dict[int, list[Use]] = {}
        for use, place in work.cut.places.items():
            if place.other is not None and work.whole.places[use].other is not None:
                self._waiting.setdefault(place.other, []).append(use)

    @override
    def before(self, call: OperatorCall) -> None:
        use, norm = self._work.cut.uses.get(call.number), self._work.cut.norms.get(call.number)
        if use is not None and use.number == 0:
            assert call.layer is not None
            groups, brought = call.layer.groups, _Brought(self._rows(use, call), self._others.pop(use, None))
            self._together.meet(self._chunk, use, brought, lambda all_of_it: self._work.solve(use, groups, all_of_it))
        elif norm is not None:
            sums = _moments(call.arguments["input"])
            self._together.meet(
                self._chunk, norm.running_mean, sums, lambda parts: self._work.take_statistics(norm, parts)
            )

    @override
    def after(self, call: OperatorCall, out: Any) -> None:
        for use in self._waiting.get(call.number, ()):
            value = _first(out)
            convolution = value.dim() > 2
            available = places(value, len(self._images), convolution=convolution)
            chosen = self._work.chosen(use, self._chunk, available)
            self._others[use] = output_rows(value, len(self._images), chosen, convolution=convolution)

    def _rows(self, use: Use, call: OperatorCall) -> list[Tensor]:
        if self._work.cut.shared(use.weight):
            collected = _Collect(self._work, use.weight, self._chunk, len(self._images))
            run(self._work.slim, self._images, collected)
            return collected.rows
        return [_rows_of(self._work, use, call, self._chunk, len(self._images))]


class _Collect(Stream):  # type: ignore[no-untyped-call]
    """Keeps what all applications of a shared weight read from one chunk, in a pass of its own."""

    def __init__(self, work: _Work, weight: str, chunk: int, images: int) -> None:
        super().__init__(work.state)
        self._work, self._weight, self._chunk, self._images = work, weight, chunk, images
        self.rows: list[Tensor] = []

    @override
    def before(self, call: OperatorCall) -> None:
        use = self._work.cut.uses.get(call.number)
        if use is not None and use.weight == self._weight:
            self.rows.append(_rows_of(self._work, use, call, self._chunk, self._images))


def _rows_of(work: _Work, use: Use, call: OperatorCall, chunk: int, images: int) -> Tensor:
    layer = call.layer
    assert layer is not None
    available = work.available[use]
    return input_rows(layer, work.state[use.weight], images, work.chosen(use, chunk, available))


def _first(out: Any) -> Tensor:
    found: Tensor = out[0] if isinstance(out, (tuple, list)) else out
    return found


def _moments(values: Tensor) -> Tensor:
    """For each channel the number of its values, their sum and the sum of their squares, in double precision."""
    by_channel = values.transpose(0, 1).flatten(1).double()
    count = torch.full((len(by_channel),), by_channel.shape[1], dtype=torch.float64)
    return torch.stack([count, by_channel.sum(1).cpu(), by_channel.square().sum(1).cpu()])
