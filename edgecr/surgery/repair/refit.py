"""One pass front to back over a cut model: each layer is refitted to what it answered before the cut.

A layer sees the inputs of the cut model as it is by then, so a refit also makes up for what earlier layers still get
wrong, and the last layer of a residual branch makes up for its shortcut. No labels and no gradients are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from edgecr.core.errors import UnsupportedModel
from edgecr.core.progress import Bar, Monitor
from edgecr.surgery.changes.cut import ChannelCut
from edgecr.surgery.repair.before_and_after import kept_outputs, still_there, unseen
from edgecr.surgery.repair.gathered import Gathered, Spread
from edgecr.surgery.repair.least_squares import Fit, Regression
from edgecr.surgery.repair.lockstep import Lockstep, parted
from edgecr.surgery.repair.overflow import Overflow, Tray
from edgecr.surgery.repair.rows import input_rows, output_rows, places, positions
from edgecr.surgery.repair.stream import (
    Enough,
    LayerCall,
    NormCall,
    OperatorCall,
    Stream,
    run,
    run_apart,
    run_on,
)
from edgecr.surgery.repair.structure import Application, Structure, structure
from edgecr.surgery.tracing.running import running, state_of

CHUNK, PIXELS = 64, 400_000
"""Images that go through the model together and share their positions, and the pixels that these have at most."""
ACTIVATIONS, ANSWERS = 384 << 20, 64 << 20
"""Bytes of waiting passes that stay in memory, while the rest is in a file; and of the dense model's answers, of which
all are in one or the other: rows that stay break up the memory between them."""
UNCHANGED = 1e-10
"""Share of an output's square that rounding explains: a layer that errs less is left as it is, to the bit."""
_DEAF = 1e-2
"""Scale of a batch norm below which a channel cannot make up for its shortcut."""


@dataclass(frozen=True)
class Sample:
    """The images and settings of a repair."""

    images: Sequence[Tensor]
    """Normalised images in chunks; each is asked for several times, and may be made anew each time."""
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
    fixed: Mapping[str, str] | None = None,
) -> RepairOutcome:
    """Refits the layers of ``slim``, which ``cuts`` made of ``dense``, in place; if that fails, it stays as it was.

    ``free`` marks the entries of a weight that may be used, where a mask forbids others; ``fixed`` are weights that
    stay as they are, and why.
    """
    first = sample.images[0][:2]
    with running(dense), running(slim), _all_or_nothing(slim):
        whole, found = structure(dense, first), structure(slim, first)
        cut = still_there(whole, found)
        work = _Work(dense, slim, whole, cut, kept_outputs(dense, cuts), sample, dict(free or {}), fixed or {})
        steps = len(sample.images) + sum(use.number == 0 for use in cut.uses.values())
        with (monitor or Monitor()).bar("Repairing layers", steps) as bar:
            work.bar = bar
            work.look()
            work.refit()
    return RepairOutcome(tuple(work.done.values()), {**found.skipped, **unseen(dense, cuts, found), **work.skipped})


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
    fixed: Mapping[str, str]
    bar: Bar = field(default_factory=Bar)
    outputs: dict[tuple[Application, int], Tensor] = field(default_factory=dict)
    """Answers of the dense model's layers at the outputs that are left, by chunk."""
    others: dict[tuple[Application, int], Tensor] = field(default_factory=dict)
    """Values that are added to the branches that end there, by chunk."""
    available: dict[tuple[Application, int], int] = field(default_factory=dict)
    """Positions that each layer answers for an image, by chunk."""
    gathered: dict[str, Gathered] = field(default_factory=dict)
    """Sums over chunks of layers that are not refitted yet, by weight."""
    spreads: dict[NormCall, Spread] = field(default_factory=dict)
    """Statistics of the sample that norms have not taken yet."""
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
        self.overflow = Overflow()
        self.answers = Tray(self.overflow, 0)
        for use in self.cut.uses.values():
            left = len(self.kept[use.weight]) if use.weight in self.kept else len(dense[use.weight])
            if left != len(self.state[use.weight]):
                raise UnsupportedModel(f"{use.layer} is not the layer that the cut left; nothing can be repaired.")

    # The dense model's answers.

    def look(self) -> None:
        """Runs the dense model over the sample and keeps what its layers answered."""
        filed = False
        for chunk, images in enumerate(self.sample.images):
            run(self.dense, images, _Look(self, chunk, len(images)))
            filed |= chunk == 0 and len(self.sample.images) * self.answers.held > ANSWERS
            if filed:
                self.answers.rest()
            self.bar.advance()

    def chosen(self, use: Application, chunk: int, available: int) -> Tensor:
        """The positions of a layer that are looked at."""
        return positions(use, chunk, self.sample.positions, available, self.sample.seed)

    # The cut model's layers.

    def refit(self) -> None:
        """Runs all chunks of the sample through the cut model in step, refitting each layer on the way."""
        together: Lockstep[Any] = Lockstep(len(self.sample.images))
        limit = ACTIVATIONS // len(self.sample.images)

        def job(chunk: int) -> None:
            images = together.have_done(lambda: self.sample.images[chunk].clone())
            run_on(self.slim, images, _Refit(self, chunk, len(images), together, Tray(self.overflow, limit)))

        together.run([partial(job, chunk) for chunk in range(len(self.sample.images))])
        self.settle()

    def gather(self, use: Application, groups: int, chunk: int, brought: _Brought) -> None:
        """Takes what one chunk brings of a layer, and forgets what the dense model answered to it."""
        applications = [Application(use.weight, number) for number in range(len(brought.rows))]
        wanted = [self.outputs.pop((application, chunk)) for application in applications]
        self.answers.use(wanted)
        if len(wanted) == 1:
            wanted = [self._with_shortcut(use, wanted[0], chunk, brought.other)]
        known = self.gathered.get(use.weight)
        if known is None:
            known = self.gathered[use.weight] = Gathered(groups, shift=self._may_shift(use))
        for rows, want in zip(brought.rows, wanted):
            known.add(rows, want, self.state[use.weight], self._bias(use))

    def solve(self, use: Application) -> None:
        """Refits one layer to all chunks."""
        self.settle()
        self.bar.advance()
        known = self.gathered.pop(use.weight)
        before = known.before
        if not np.isfinite(before):
            raise _not_finite(use)
        if before <= UNCHANGED * known.squares:
            return
        if use.weight in self.fixed:
            self.skipped[use.layer] = self.fixed[use.weight]
            return
        if known.too_large:
            self.skipped[use.layer] = f"{known.inputs:,} inputs are too many to solve for"
            return
        high = len(self.state[use.weight]) // len(known.groups)
        fits = [self._fitted(use, one, slice(n * high, (n + 1) * high)) for n, one in enumerate(known.groups)]
        change, shift = torch.cat([one.change.T for one in fits]), torch.cat([one.shift for one in fits])
        self._write(use, change, shift, self._may_shift(use))
        variance = known.variance
        self.done[use.layer] = Refitted(use.layer, before / variance, sum(one.after for one in fits) / variance)
        self.touched = True

    def _fitted(self, use: Application, found: Regression, out: slice) -> Fit:
        """The fit of one group of outputs; outputs that may use other inputs are fitted apart."""
        ridge, free = self.sample.ridge, self.free.get(use.weight)
        if free is None:
            return _finite(use, found, ridge)
        found.gather()
        masks = free[out].flatten(1).bool().cpu()
        change = torch.zeros(masks.shape[1], len(masks))
        shift, before, after = torch.zeros(len(masks)), 0.0, 0.0
        patterns, which = torch.unique(masks, dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            outputs = (which == number).nonzero().flatten()
            columns = pattern.nonzero().flatten()
            one = _finite(use, found.part(columns, outputs), ridge)
            change[columns[:, None], outputs] = one.change
            shift[outputs] = one.shift
            before, after = before + one.before, after + one.after
        return Fit(change, shift, before, after)

    def _with_shortcut(self, use: Application, want: Tensor, chunk: int, other: Tensor | None) -> Tensor:
        """The answers that the last layer of a branch has to give so that the sum behind it is the dense model's."""
        before = self.others.pop((use, chunk), None)
        if before is None or other is None:
            return want
        self.answers.use([before])
        norm, scale = self.cut.places[use].norm, torch.ones(())
        if norm is not None:
            scale = self.state[norm.weight] / torch.sqrt(self.state[norm.running_var] + norm.eps)
        scale, gap = scale.detach().float().cpu(), before - other
        return want + torch.where(scale.abs() > _DEAF, gap / scale, torch.zeros_like(gap))

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

    def notice(self, norm: NormCall, values: Tensor) -> None:
        """Adds what a norm reads of one chunk; before anything was changed it has these statistics already."""
        if self.touched:
            self.spreads.setdefault(norm, Spread()).add(values)

    def settle(self) -> None:
        """Lets norms take the statistics of the sample once all chunks have passed them."""
        spreads, self.spreads = self.spreads, {}
        for norm, spread in spreads.items():
            self.take_statistics(norm, spread)

    def take_statistics(self, norm: NormCall, found: Spread) -> None:
        """Gives a batch norm the statistics of the sample, and scales that keep its function the same."""
        if found.count < 2:
            return
        now, spread = found.mean, found.variance
        weight, bias = self.state[norm.weight], self.state[norm.bias]
        mean, var = self.state[norm.running_mean], self.state[norm.running_var]
        with torch.no_grad():
            scale = weight.double().cpu() / torch.sqrt(var.double().cpu() + norm.eps)
            offset = bias.double().cpu() - scale * mean.double().cpu()
            weight.copy_(scale * torch.sqrt(spread + norm.eps))
            bias.copy_(offset + scale * now)
            mean.copy_(now)
            var.copy_(spread)


def _finite(use: Application, found: Regression, ridge: float) -> Fit:
    try:
        return found.fit(ridge)
    except FloatingPointError as error:
        raise _not_finite(use) from error


def _not_finite(use: Application) -> UnsupportedModel:
    return UnsupportedModel(
        f"{use.layer} reads or answers values that are not finite numbers, so it cannot be repaired; look for NaN or "
        "infinite weights and images."
    )


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

    def _keep(self, into: dict[tuple[Application, int], Tensor], use: Application, rows: Tensor) -> None:
        kept = self._work.kept.get(use.weight)
        into[use, self._chunk] = rows if kept is None else rows[:, kept]
        self._work.answers.use([into[use, self._chunk]])


class _Refit(Stream):  # type: ignore[no-untyped-call]
    """Runs one chunk through the cut model, and hands over what each layer reads before the layer runs."""

    def __init__(self, work: _Work, chunk: int, images: int, together: Lockstep[Any], tray: Tray) -> None:
        super().__init__(work.state)
        self._work, self._chunk, self._images, self._together, self._tray = work, chunk, images, together, tray
        self._others: dict[Application, Tensor] = {}

    @override
    def before(self, call: OperatorCall) -> None:
        use = self._work.cut.uses.get(call.number)
        if use is not None and use.number == 0:
            ahead = self._ahead(use, call)
            self._together.have_done(lambda: self._gather(use, call, ahead))
            self._together.meet(self._chunk, use, None, lambda _: self._work.solve(use))

    @override
    def perform(self, call: OperatorCall, work: Callable[[], Any]) -> Any:
        if call.view:  # it takes no memory, and must be made where the tensor was
            return self._perform(call, work)
        return self._together.have_done(lambda: self._perform(call, work))

    def _perform(self, call: OperatorCall, work: Callable[[], Any]) -> Any:
        norm = self._work.cut.norms.get(call.number)
        with self._own():
            self._use(call.tensors)
            if norm is not None:
                self._work.notice(norm, call.arguments["input"])
        out = work()
        with self._own():
            self._use(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
            for use in self._work.awaited.get(call.number, ()):
                self._others[use] = _other_rows(self._work, use, out, self._chunk, self._images)
        return out

    def _gather(self, use: Application, call: OperatorCall, ahead: _Brought | None) -> None:
        self._use(call.tensors)
        if ahead is None:
            rows = _rows_of(self._work, use, call, self._chunk, self._images)
            ahead = _Brought([rows], self._others.pop(use, None))
        self._work.gather(use, _layer(call, use).groups, self._chunk, ahead)
        self._tray.rest()

    def _use(self, tensors: Iterable[Tensor]) -> None:
        """Has the memory of tensors of this pass; the model's own ones are always there."""
        self._tray.use(tensor for tensor in tensors if not self.name(tensor))

    def _ahead(self, use: Application, call: OperatorCall) -> _Brought | None:
        """Inputs of a layer and of its shortcut, where some of them come after the layer; None where none do."""
        place, shared = self._work.cut.places[use], self._work.cut.shared(use.weight)
        if not shared and (place.other or 0) <= call.number:
            return None
        ahead = _Ahead(self._work, use, self._chunk, self._images)
        run_apart(self._work.slim, self._work.sample.images[self._chunk], ahead)
        return _Brought(ahead.rows, ahead.other)


class _Ahead(Stream):  # type: ignore[no-untyped-call]
    """Sees in a pass of its own what comes after a layer: all applications of its weight, and its shortcut."""

    def __init__(self, work: _Work, use: Application, chunk: int, images: int) -> None:
        super().__init__(work.state)
        self._work, self._use, self._chunk, self._images = work, use, chunk, images
        self._applied = sum(one.weight == use.weight for one in work.cut.places)
        self._awaits = use in work.ends
        self.rows: list[Tensor] = []
        self.other: Tensor | None = None

    @override
    def before(self, call: OperatorCall) -> None:
        use = self._work.cut.uses.get(call.number)
        if use is not None and use.weight == self._use.weight:
            self.rows.append(_rows_of(self._work, use, call, self._chunk, self._images))
            self._stop_if_done()

    @override
    def after(self, call: OperatorCall, out: Any) -> None:
        if self._use in self._work.awaited.get(call.number, ()):
            self.other = _other_rows(self._work, self._use, out, self._chunk, self._images)
            self._stop_if_done()

    def _stop_if_done(self) -> None:
        if len(self.rows) == self._applied and (self.other is not None) == self._awaits:
            raise Enough


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
