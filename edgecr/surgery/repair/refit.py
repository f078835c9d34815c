"""One pass front to back over a cut model: each layer is refitted to what it answered before the cut.

A layer sees the inputs of the cut model as it is by then, so a refit also makes up for what earlier layers still get
wrong, and the last layer of a residual branch makes up for its shortcut. No labels and no gradients are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from edgecr.core.errors import UnsupportedModel
from edgecr.core.progress import Bar, Monitor
from edgecr.surgery.changes.cut import ChannelCut, as_positions
from edgecr.surgery.repair.least_squares import Fit, fit, too_large
from edgecr.surgery.repair.lockstep import Lockstep, parted
from edgecr.surgery.repair.rows import input_rows, output_rows, places, positions
from edgecr.surgery.repair.stream import LayerCall, NormCall, OperatorCall, Stream, first_names, run, run_apart
from edgecr.surgery.repair.structure import Application, Structure, structure
from edgecr.surgery.tracing.running import running, state_of

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
class RepairOutcome:
    """The errors that a repair found and left, layer by layer in running order."""

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
) -> RepairOutcome:
    """Refits the layers of ``slim``, which ``cuts`` made of ``dense``, in place; if that fails, it stays as it was.

    ``free`` marks the entries of a weight that may be used, where a mask forbids others.
    """
    first = sample.images[0][:2]
    with running(dense), running(slim), _all_or_nothing(slim):
        whole, found = structure(dense, first), structure(slim, first)
        cut = _known(whole, found)
        work = _Work(dense, slim, whole, cut, kept_outputs(dense, cuts), sample, dict(free or {}))
        steps = len(sample.images) + sum(use.number == 0 for use in cut.uses.values())
        with (monitor or Monitor()).bar("Repairing layers", steps) as bar:
            work.bar = bar
            work.look()
            work.refit()
    return RepairOutcome(tuple(work.done.values()), {**found.skipped, **_unseen(dense, cuts, found), **work.skipped})


@contextmanager
def _all_or_nothing(module: nn.Module) -> Iterator[None]:
    state = state_of(module)
    before = {name: tensor.detach().clone() for name, tensor in state.items()}
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for name, tensor in before.items():
                state[name].copy_(tensor)
        raise


def kept_outputs(dense: nn.Module, cuts: Sequence[ChannelCut]) -> dict[str, Tensor]:
    """For each weight that lost outputs the ones that are left, as positions in the dense weight."""
    kept: dict[str, np.ndarray] = {}
    widths = {name: tensor.shape[0] for name, tensor in state_of(dense).items() if tensor.dim() > 1}
    known = first_names(dense)
    for cut in cuts:
        for one in cut.tensors:
            if one.dim == 0 and one.tensor in widths:
                name = known[one.tensor]
                kept[name] = np.delete(kept.get(name, np.arange(widths[name])), as_positions(one.removed))
    return {name: torch.from_numpy(left) for name, left in kept.items()}


def _known(whole: Structure, cut: Structure) -> Structure:
    """The cut model's structure without layers that only look like new ones: depthwise ones of one channel."""
    before = {use.weight for use in whole.uses.values()}
    uses = {number: use for number, use in cut.uses.items() if use.weight in before}
    for use in uses.values():
        if use not in whole.places:
            raise UnsupportedModel(
                f"{use.layer} runs more often than before the cut, so it cannot be repaired; leave the repair out."
            )
    return replace(cut, uses=uses, places={use: cut.places[use] for use in uses.values()})


def _unseen(dense: nn.Module, cuts: Sequence[ChannelCut], cut: Structure) -> dict[str, str]:
    """Layers that lost inputs, but are none of those that a repair knows."""
    known, parameters = first_names(dense), dict(dense.named_parameters(remove_duplicate=False))
    seen = {use.layer for use in cut.uses.values()} | cut.skipped.keys()
    lost = (one.tensor for each in cuts for one in each.tensors if one.role == "in" and one.tensor in parameters)
    layers = (Application(known[name]).layer for name in lost if parameters[name].dim() > 1)
    why = "it is no convolution or linear layer, or does not run when the model is used"
    return {layer: why for layer in layers if layer not in seen}


_Part = tuple[slice, list[Tensor], list[Tensor]]
"""The outputs of one group of a layer, the rows that it reads, and what its answers lack."""


@dataclass
class _Brought:
    """One chunk's part at one layer: what the layer reads, and what its shortcut adds."""

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
    outputs: dict[Application, list[Tensor]] = field(default_factory=dict)
    """Answers of the dense model's layers at the outputs that are left, by chunk."""
    others: dict[Application, list[Tensor]] = field(default_factory=dict)
    """Values that are added to the branches that end there, by chunk."""
    available: dict[tuple[Application, int], int] = field(default_factory=dict)
    """Positions that each layer answers for an image, by chunk."""
    done: dict[str, Refitted] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    touched: bool = False
    """True once a layer was changed: the statistics of what follows are no longer the dense model's."""

    def __post_init__(self) -> None:
        self.state = state_of(self.slim)
        dense = state_of(self.dense)
        known = (self.whole.places, self.cut.places)
        self.ends = [use for use in self.cut.places if all(places[use].other is not None for places in known)]
        self.awaited = _by_number(self.cut, self.ends)
        for use in self.cut.uses.values():
            left = len(self.kept[use.weight]) if use.weight in self.kept else len(dense[use.weight])
            if left != len(self.state[use.weight]):
                raise UnsupportedModel(f"{use.layer} is not the layer that the cut left; nothing can be repaired.")

    # The dense model's answers.

    def look(self) -> None:
        """Runs the dense model over the sample and keeps what its layers answered."""
        for chunk, images in enumerate(self.sample.images):
            run(self.dense, images, _Look(self, chunk, len(images)))
            self.bar.advance()

    def chosen(self, use: Application, chunk: int, available: int) -> Tensor:
        """The positions of a layer that are looked at."""
        return positions(use, chunk, self.sample.positions, available, self.sample.seed)

    # The cut model's layers.

    def refit(self) -> None:
        """Runs all chunks of the sample through the cut model in step, refitting each layer on the way."""
        together: Lockstep[Any] = Lockstep(len(self.sample.images))

        def job(chunk: int, images: Tensor) -> None:
            run(self.slim, images, _Refit(self, chunk, images, together))

        together.run([lambda n=n, part=part: job(n, part) for n, part in enumerate(self.sample.images)])  # type: ignore[misc]

    def solve(self, use: Application, groups: int, brought: Sequence[_Brought]) -> None:
        """Refits one layer to all chunks."""
        self.bar.advance()
        wanted, inputs = self._wanted(use, brought), [part for one in brought for part in one.rows]
        parts = self._parts(use, groups, wanted, inputs)
        before = sum(float(part.double().square().sum()) for _, _, residuals in parts for part in residuals)
        if not np.isfinite(before):
            raise _not_finite(use)
        squares, variance = _sizes(wanted)
        if before <= UNCHANGED * squares:
            return
        unknowns = parts[0][1][0].shape[1]
        if too_large(sum(map(len, inputs)), unknowns):
            self.skipped[use.layer] = f"{unknowns:,} inputs are too many to solve for"
            return
        shifts = self._may_shift(use)
        fits = [self._fitted(use, own, residuals, out, shifts) for out, own, residuals in parts]
        self._write(use, torch.cat([one.change.T for one in fits]), torch.cat([one.shift for one in fits]), shifts)
        self.done[use.layer] = Refitted(use.layer, before / variance, sum(one.after for one in fits) / variance)
        self.touched = True

    def _parts(self, use: Application, groups: int, wanted: list[Tensor], inputs: list[Tensor]) -> list[_Part]:
        """For each group of a layer its outputs, what it reads, and what its answers lack."""
        weight, bias = self.state[use.weight], self._bias(use)
        matrix = weight.detach().float().cpu().flatten(1)
        high, wide = len(matrix) // groups, weight.shape[1]
        parts = []
        for group in range(groups):
            out, read = slice(group * high, (group + 1) * high), slice(group * wide, (group + 1) * wide)
            own = [part[:, read].flatten(1) for part in inputs]
            parts.append(
                (out, own, [want[:, out] - part @ matrix[out].T - bias[out] for want, part in zip(wanted, own)])
            )
        return parts

    def _wanted(self, use: Application, brought: Sequence[_Brought]) -> list[Tensor]:
        """The answers that a layer has to give, for each chunk and application; they are forgotten once asked for."""
        outputs = [self.outputs.pop(Application(use.weight, number)) for number in range(len(brought[0].rows))]
        found = [each[chunk] for chunk in range(len(brought)) for each in outputs]
        return self._with_shortcut(use, found, brought) if len(outputs) == 1 else found

    def _fitted(self, use: Application, own: list[Tensor], residuals: list[Tensor], out: slice, shifts: bool) -> Fit:
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

    def _with_shortcut(self, use: Application, wanted: list[Tensor], brought: Sequence[_Brought]) -> list[Tensor]:
        """The answers that the last layer of a branch has to give so that the sum behind it is the dense model's."""
        others = self.others.pop(use, None)
        if others is None or brought[0].other is None:
            return wanted
        norm, scale = self.cut.places[use].norm, torch.ones(())
        if norm is not None:
            scale = self.state[norm.weight] / torch.sqrt(self.state[norm.running_var] + norm.eps)
        scale = scale.detach().float().cpu()
        found = []
        for want, before, one in zip(wanted, others, brought):
            assert one.other is not None
            gap = before - one.other
            found.append(want + torch.where(scale.abs() > _DEAF, gap / scale, torch.zeros_like(gap)))
        return found

    def _bias(self, use: Application) -> Tensor:
        name = self.cut.biases.get(use.weight, "")
        own = self.state[name].detach().float().cpu() if name else torch.zeros(())
        return own.expand(len(self.state[use.weight]))

    def _may_shift(self, use: Application) -> bool:
        """True where a constant can be added to each output: in a bias of its own, or in the batch norm behind."""
        bias = self.cut.biases.get(use.weight, "")
        if bias:
            return bias not in self.cut.bias_shared
        norm = self.cut.places[use].norm
        return norm in self.cut.norms.values() and not self.cut.shared(use.weight)

    def _write(self, use: Application, change: Tensor, shift: Tensor, shifts: bool) -> None:
        with torch.no_grad():
            weight, bias, norm = self.state[use.weight], self.cut.biases.get(use.weight, ""), self.cut.places[use].norm
            weight.add_(change.reshape(weight.shape).to(weight.device, weight.dtype))
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


def _finite(use: Application, own: list[Tensor], residuals: list[Tensor], ridge: float, shifts: bool) -> Fit:
    try:
        return fit(own, residuals, ridge, shift=shifts)
    except FloatingPointError as error:
        raise _not_finite(use) from error


def _not_finite(use: Application) -> UnsupportedModel:
    return UnsupportedModel(
        f"{use.layer} reads or answers values that are not finite numbers, so it cannot be repaired; look for NaN or "
        "infinite weights and images."
    )


def _sizes(wanted: Sequence[Tensor]) -> tuple[float, float]:
    """The sum of squares of some rows, and of their distances from their means."""
    rows = sum(len(part) for part in wanted)
    total = torch.stack([part.sum(0, dtype=torch.float64) for part in wanted]).sum(0)
    squares = sum(float(part.double().square().sum()) for part in wanted)
    return squares, max(squares - float((total.square() / rows).sum()), 1e-30)


def _by_number(found: Structure, ends: Sequence[Application]) -> dict[int, list[Application]]:
    """The ends of branches by the operator that makes what is added to them."""
    waiting: dict[int, list[Application]] = {}
    for use in ends:
        waiting.setdefault(found.places[use].other or 0, []).append(use)
    return waiting


class _Look(Stream):  # type: ignore[no-untyped-call]
    """Keeps what the dense model's layers answer to one chunk."""

    def __init__(self, work: _Work, chunk: int, images: int) -> None:
        super().__init__(state_of(work.dense))
        self._work, self._chunk, self._images = work, chunk, images
        self._cut = set(work.cut.uses.values())
        self._awaited = _by_number(work.whole, work.ends)

    @override
    def after(self, call: OperatorCall, out: Any) -> None:
        for waiting in self._awaited.get(call.number, ()):
            rows = _other_rows(self._work, waiting, out, self._chunk, self._images)
            self._keep(self._work.others, waiting, rows)
        use = self._work.whole.uses.get(call.number)
        if use is not None and use in self._cut:
            convolution = bool(_layer(call, use).geometry)
            available = places(out, self._images, convolution=convolution)
            self._work.available[use, self._chunk] = available
            chosen = self._work.chosen(use, self._chunk, available)
            self._keep(self._work.outputs, use, output_rows(out, self._images, chosen, convolution=convolution))

    def _keep(self, into: dict[Application, list[Tensor]], use: Application, rows: Tensor) -> None:
        kept = self._work.kept.get(use.weight)
        into.setdefault(use, []).append(rows if kept is None else rows[:, kept])


class _Refit(Stream):  # type: ignore[no-untyped-call]
    """Runs one chunk through the cut model, and hands over what each layer reads before the layer runs."""

    def __init__(self, work: _Work, chunk: int, images: Tensor, together: Lockstep[Any]) -> None:
        super().__init__(work.state)
        self._work, self._chunk, self._images, self._together = work, chunk, images, together
        self._others: dict[Application, Tensor] = {}

    @override
    def before(self, call: OperatorCall) -> None:
        use, norm = self._work.cut.uses.get(call.number), self._work.cut.norms.get(call.number)
        if use is not None and use.number == 0:
            groups, brought = _layer(call, use).groups, self._brought(use, call)
            self._together.meet(self._chunk, use, brought, lambda all_of_it: self._work.solve(use, groups, all_of_it))
        elif norm is not None:
            sums = _moments(call.arguments["input"])
            self._together.meet(
                self._chunk, norm.running_mean, sums, lambda parts: self._work.take_statistics(norm, parts)
            )

    @override
    def after(self, call: OperatorCall, out: Any) -> None:
        for use in self._work.awaited.get(call.number, ()):
            self._others[use] = _other_rows(self._work, use, out, self._chunk, len(self._images))

    def _brought(self, use: Application, call: OperatorCall) -> _Brought:
        place, shared = self._work.cut.places[use], self._work.cut.shared(use.weight)
        if shared or (place.other or 0) > call.number:
            ahead = _Ahead(self._work, use, self._chunk, len(self._images))
            run_apart(self._work.slim, self._images, ahead)
            return _Brought(ahead.rows, ahead.other)
        rows = _rows_of(self._work, use, call, self._chunk, len(self._images))
        return _Brought([rows], self._others.pop(use, None))


class _Ahead(Stream):  # type: ignore[no-untyped-call]
    """Sees in a pass of its own what comes after a layer: all applications of its weight, and its shortcut."""

    def __init__(self, work: _Work, use: Application, chunk: int, images: int) -> None:
        super().__init__(work.state)
        self._work, self._use, self._chunk, self._images = work, use, chunk, images
        self.rows: list[Tensor] = []
        self.other: Tensor | None = None

    @override
    def before(self, call: OperatorCall) -> None:
        use = self._work.cut.uses.get(call.number)
        if use is not None and use.weight == self._use.weight:
            self.rows.append(_rows_of(self._work, use, call, self._chunk, self._images))

    @override
    def after(self, call: OperatorCall, out: Any) -> None:
        if self._use in self._work.awaited.get(call.number, ()):
            self.other = _other_rows(self._work, self._use, out, self._chunk, self._images)


def _layer(call: OperatorCall, use: Application) -> LayerCall:
    """The layer that has to run here."""
    if call.layer is None or call.layer.weight != use.weight:
        raise parted()
    return call.layer


def _other_rows(work: _Work, use: Application, out: Any, chunk: int, images: int) -> Tensor:
    value = _first(out)
    convolution = value.dim() > 2
    chosen = work.chosen(use, chunk, places(value, images, convolution=convolution))
    return output_rows(value, images, chosen, convolution=convolution)


def _rows_of(work: _Work, use: Application, call: OperatorCall, chunk: int, images: int) -> Tensor:
    layer = _layer(call, use)
    available = work.available[use, chunk]
    return input_rows(layer, work.state[use.weight], images, work.chosen(use, chunk, available))


def _first(out: Any) -> Tensor:
    found: Tensor = out[0] if isinstance(out, (tuple, list)) else out
    return found


def _moments(values: Tensor) -> Tensor:
    """For each channel the number of its values, their sum and the sum of their squares, in double precision."""
    by_channel = values.transpose(0, 1).flatten(1).double()
    count = torch.full((len(by_channel),), by_channel.shape[1], dtype=torch.float64)
    return torch.stack([count, by_channel.sum(1).cpu(), by_channel.square().sum(1).cpu()])
