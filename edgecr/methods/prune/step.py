"""The work of a pruning step: at once, in rounds, or while the model is trained."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial

from torch import nn

from edgecr.core.errors import BudgetError, UnsupportedModel
from edgecr.core.files import fingerprint, read_json, write_json
from edgecr.core.seeds import derive_seed
from edgecr.methods.prune.appraisal import Appraisal
from edgecr.methods.prune.dropping import Dropping
from edgecr.methods.prune.latencies import Latencies
from edgecr.methods.prune.latency_search import Aim, Lessons, Measured, search
from edgecr.methods.prune.options import Exponential, Iterative, PruneOptions
from edgecr.methods.prune.recalibration import recalibrated
from edgecr.methods.prune.while_training import RemovalObserver, RemovalSchedule
from edgecr.methods.repair.step import repaired_if_possible
from edgecr.methods.rounds import kept
from edgecr.subject import Subject
from edgecr.surgery.carry_out import Choice, Pruned, carried_out, prune_channels
from edgecr.surgery.changes.cut import ChannelCut
from edgecr.surgery.changes.drop import BlockDrop
from edgecr.surgery.counters import count
from edgecr.surgery.planning.amounts import CHANNELS, LATENCY, SIZE, WHOLE_LATENCY, in_words
from edgecr.surgery.planning.cost import Cost
from edgecr.surgery.planning.figures import BYTES
from edgecr.surgery.planning.latency import amounts_after
from edgecr.surgery.planning.plan import Plan, Planner
from edgecr.surgery.planning.record import NAME, SHORT, Amount, PlanRecord, Width
from edgecr.surgery.planning.unreachable import FIXED, LOOSEN, at_loss
from edgecr.surgery.planning.widths import MULTIPLES, Allowed, Limits, allowed_by
from edgecr.surgery.repair.options import RepairOptions
from edgecr.surgery.scoring.scores import ScoringInputs, allocators, scores
from edgecr.surgery.tracing.after import after
from edgecr.surgery.tracing.graph import ChannelGraph, trace_channels
from edgecr.training.checkpoint import discard
from edgecr.training.context import StepContext
from edgecr.training.loop import fit
from edgecr.training.order import order_for
from edgecr.training.sample import TrainingSample
from edgecr.weights import hash_tensors

Shares = Mapping[str, int | float]
"""Budgets by figure: fractions, or whole units."""


@dataclass(frozen=True)
class _Request:
    """The amounts of each figure that may remain, in whole units."""

    dense: dict[str, int]
    """Amounts before the step."""
    asked: dict[str, int]
    left: dict[str, int]
    """Amounts that plans aim at: a latency is stricter or looser than asked where the table misjudges whole models."""

    @classmethod
    def of(cls, planner: Planner, shares: Shares, strict: Shares) -> _Request:
        """The request of one planner; ``strict`` are the shares that the plan was made for."""
        dense = {name: planner.figure(name, planner.cost.widths) for name in shares}
        asked, left = (
            {name: min(amount, dense[name]) for name, amount in planner.amounts(some).items()}
            for some in (shares, strict)
        )
        return cls(dense, asked, left)


@dataclass(frozen=True)
class _First:
    """The whole pruning at once, and the request as its planner understood it."""

    pruned: Pruned
    request: _Request
    allowed: Allowed
    """The groups that the plan chose from."""
    channels: int
    """Channels that may go in the model with all of its blocks."""
    drops: tuple[BlockDrop, ...] = ()
    loss: float | None = None
    """The measured loss of the plan, where widths have one."""


def _stricter(shares: Shares, strictness: float) -> dict[str, int | float]:
    """The budgets with the latency that the table must promise, so that the whole model keeps what was asked."""
    found = dict(shares)
    if LATENCY in found:
        share = found[LATENCY] * strictness
        found[LATENCY] = round(share) if isinstance(shares[LATENCY], int) else min(share, 1.0)
    return found


def _channels(planner: Planner) -> int:
    """The channels that may go at all."""
    return planner.figure(CHANNELS, planner.cost.widths)


class Pruning:
    """One pruning step of a recipe on one subject."""

    request: _Request
    aim: Aim
    """The aim of the first plan, and of those of the schedule's steps."""

    def __init__(self, method: PruneOptions, subject: Subject, context: StepContext) -> None:
        self.method, self.subject, self.context = method, subject, context
        self.device = method.device or "cpu"
        self.latencies = Latencies(context, subject, self.device, method.latency_batch or 1, method.target)
        self.score = scores.get(method.score)
        self.allocator = allocators.get(method.score) if method.scope == "layer" else None
        self.why = f"{method.score}, {method.scope}"
        self.before = count(subject.module, subject.input_shape)
        method.refuse_misplaced(subject.promise(allow_code=context.execution.allow_code).figures)

    @cached_property
    def limits(self) -> Limits:
        """The limits that every plan respects; automatic alignment follows the table, else target and device."""
        declared = self._limits(self.context.latencies.align(self.device, self.method.target))
        if not self.by_latency or self.method.align != "auto":
            return declared
        self._refuse_fixed(declared)  # before any latency is measured
        return self._limits(self.latencies.step) if self.latencies.step > 1 else declared

    def _limits(self, most: int) -> Limits:
        """The limits with automatic alignment by one multiple."""
        method, multiples = self.method, tuple(dict.fromkeys([most, *(m for m in MULTIPLES if m < most)]))
        return Limits(
            method.align,
            method.min_channels,
            method.min_fraction,
            method.exclude,
            method.max_fraction,
            tuple(m for m in multiples if m > 1),
        )

    def _refuse_fixed(self, limits: Limits) -> None:
        """Refuses limits under which nothing can go, unless blocks may; a model that cannot be traced is told later."""
        if self.method.drop != "none":
            return
        with suppress(UnsupportedModel):
            graph = trace_channels(self.subject.module, self.subject.input_shape)
            if graph.groups and not allowed_by(graph, limits).removable:
                raise BudgetError(FIXED)

    @property
    def by_latency(self) -> bool:
        """True if a budget of latency was given."""
        return self.method.budget is not None and self.method.budget.latency is not None

    def done(self) -> Subject:
        """The pruned subject; its plan is told, logged and stored."""
        whole, self.aim = (
            search(self._measured, self._at_once, self._refusal, self._same) if self.by_latency else self._plain()
        )
        first, self.request = whole.pruned, whole.request
        schedule = self.method.when
        if isinstance(schedule, Iterative):
            result = self._in_rounds(first, schedule)
        elif isinstance(schedule, Exponential):
            result = self._while_training(first, schedule)
        else:
            result = self.subject.with_changes(*whole.drops, first.cut).with_module(first.module)
        self._tell(whole, result)
        return self._repaired(result)

    def _repaired(self, result: Subject) -> Subject:
        """The pruned subject with its layers refitted or norms recalibrated, as was wanted and images allow."""
        options = self.method.repairs
        if self.method.recalibrate and result.surgery[len(self.subject.surgery) :]:
            return recalibrated(result, self.context)
        if options is None or not result.surgery[len(self.subject.surgery) :]:
            return result
        return repaired_if_possible(self.subject, result, options, self.context, asked=self.method.repair is not None)

    def _pruned(
        self, subject: Subject, choose: Choice, allowed: Allowed | None = None, known: ChannelGraph | None = None
    ) -> Pruned:
        return prune_channels(
            subject.input_shape,
            self.score,
            self._evidence(subject),
            self.limits,
            choose,
            self.why,
            allowed,
            known,
            allocator=self.allocator,
            appraise=self._appraisal,
        )

    @cached_property
    def _appraisal(self) -> Appraisal | None:
        """The measured values of widths, where the plan rests on them."""
        if self.method.scope != "measured":
            return None
        return Appraisal(self.subject, self.method.repairs or RepairOptions(), self.context)

    def _evidence(self, subject: Subject) -> ScoringInputs:
        data, monitor = self.context.data, self.context.monitor
        order = order_for(subject.module, data.preprocessing.size)
        images, half = TrainingSample(data, self.context.seed, order), len(data.train) // 2
        return ScoringInputs(
            subject.module, self.method.normalise, self.context.seed, images, most=half, say=monitor.say
        )

    # Budgets.

    def _plain(self) -> tuple[_First, Aim]:
        return self._at_once(Aim()), Aim()

    def _at_once(self, aim: Aim) -> _First:
        """The whole pruning at once: the result, or the proof that several steps can get there."""
        if self._dropping is not None:
            return self._with_drops(self._dropping, aim)
        method, made = self.method, list[tuple[Planner, Plan, _Request]]()

        def choose(planner: Planner) -> Plan:
            if not planner.allowed.removable:  # said before any latency is measured
                raise BudgetError(FIXED)
            shares = method.budget.shares() if method.budget else planner.share_left(method.sparsity or 0.0)
            strict = _stricter(shares, aim.strictness)
            plan = self._plan(planner, strict, aim)
            made.append((planner, plan, _Request.of(planner, shares, strict)))
            return plan

        pruned = self._pruned(self.subject, choose)
        planner, plan, request = made[-1]
        loss = planner.loss_of(plan.kept) if planner.worth is not None else None
        return _First(pruned, request, planner.allowed, _channels(planner), loss=loss)

    def _with_drops(self, dropping: Dropping, aim: Aim) -> _First:
        """The whole pruning with residual blocks that may go too; budgets are of the model with all of its blocks."""
        shares = self.method.budget.shares() if self.method.budget else {}
        dense = {name: self._dense(dropping.whole, name, aim) for name in shares}
        asked = {name: share if isinstance(share, int) else int(share * dense[name]) for name, share in shares.items()}
        strict = _stricter(asked, aim.strictness)
        choice, plan = dropping.best(lambda planner: self._plan(planner, strict, aim))
        pruned = carried_out(choice.subject.module, plan, self.why)
        left = {name: min(int(amount), dense[name]) for name, amount in strict.items()}
        request = _Request(dense, {name: min(amount, dense[name]) for name, amount in asked.items()}, left)
        channels = _channels(dropping.whole)
        return _First(pruned, request, choice.planner.allowed, channels, choice.drops, choice.loss_of(plan))

    def _dense(self, whole: Planner, name: str, aim: Aim) -> int:
        """A figure of the model before this step."""
        if name == LATENCY:
            return self.latencies.predicted(self.subject.module, aim.lessons)
        return whole.figure(name, whole.cost.widths)

    @cached_property
    def _dropping(self) -> Dropping | None:
        """The choice of residual blocks to drop, where they may go."""
        if self.method.drop == "none" or self._appraisal is None:
            return None
        evidence = self._evidence(self.subject)
        graph = trace_channels(self.subject.module, self.subject.input_shape)
        values = [self.score(group, evidence) for group in graph.groups]
        whole = Planner(graph, Cost(self.subject.module, graph), values, self.limits)
        whole.worth = self._appraisal(whole)
        return Dropping(self.subject, self.limits, whole, *self._appraisal.without_blocks(whole))

    def _plan(self, planner: Planner, shares: Shares, aim: Aim) -> Plan:
        choose = partial(Planner.by_budget, scope=self.method.scope, shares=shares)
        return self.latencies.plan(planner, choose, aim.lessons) if LATENCY in shares else choose(planner)

    def _measured(self, first: _First, aim: Aim) -> Measured:
        """Measures a plan's whole model beside the unpruned one."""
        module = first.pruned.module
        promised = self._promised(module, aim.lessons)
        whole = self.latencies.whole(module)
        lessons, allowed = self.latencies.learnt(module, whole, aim.lessons), self._allowed(whole.dense)
        taken, wanted = in_words(LATENCY, whole.slim), in_words(LATENCY, allowed)
        self.context.monitor.say(f"A plan's whole model takes {taken} on {self.device}; {wanted} may remain")
        return Measured(whole.slim / allowed, lessons, (promised, self._promised(module, lessons)))

    def _same(self, one: _First, other: _First) -> bool:
        """True for plans whose whole models take the same time."""
        return self.latencies.key(one.pruned.module) == self.latencies.key(other.pruned.module)

    def _promised(self, module: nn.Module, lessons: Lessons) -> float:
        """Returns a module's latency by the calibrated table, as a part of the asked one."""
        dense, slim = (self.latencies.predicted(one, lessons) for one in (self.subject.module, module))
        return slim / self._allowed(dense)

    def _refusal(self, last: _First) -> BudgetError:
        """No plan is strict enough: says what is the least in milliseconds of the whole model."""
        dense, slim, _ = self.latencies.whole(last.pruned.module)
        wanted, taken = in_words(LATENCY, self._allowed(dense)), in_words(LATENCY, slim)
        return BudgetError(
            f"latency: {wanted} may remain, but on {self.device} the whole model still takes {taken} with the "
            f"last plan{at_loss(last.loss)}, and no stricter one is possible. {LOOSEN}"
        )

    def _allowed(self, dense: int) -> int:
        """Returns the latency that the whole model may have, given the unpruned one's, in nanoseconds."""
        budget = self.method.budget
        share = budget.shares()[LATENCY] if budget is not None else 1.0
        return share if isinstance(share, int) else round(share * dense)

    def _step(self, planner: Planner, number: int, steps: int) -> Plan:
        """The plan of one of several steps; its real figures are logged."""
        amounts = amounts_after(number, steps, self.request.dense, self.request.left)
        plan = self._plan(planner, amounts, self.aim)
        reached = {name: planner.figure(name, plan.kept) for name in amounts}
        self.context.monitor.event("pruning step", step=number, steps=steps, budget=amounts, reached=reached)
        return plan

    # Schedules.

    def _in_rounds(self, first: Pruned, schedule: Iterative) -> Subject:
        """Prunes a bit and trains, several times; each finished round stays where a killed run finds it."""
        subject, allowed, execution = self.subject, allowed_by(first.graph, self.limits), self.context.execution
        for number in range(1, schedule.steps + 1):
            folder = self.context.folder / f"round-{number:02d}"
            key = fingerprint([self.method.plain(), self.context.seed, hash_tensors(subject.module.state_dict())])
            choose = partial(self._step, number=number, steps=schedule.steps)
            left = allowed.after(self._cuts(subject))
            start = kept(folder / "pruned", key, partial(self._slimmed, subject, choose, left, first.graph), execution)
            context = replace(self.context, folder=folder, seed=derive_seed(self.context.seed, number))
            trained = partial(self._trained, start, schedule, context)
            subject = kept(folder / "subject", key, trained, execution, beside=("history.json",))
            discard(folder)
        write_json(self.context.folder / "history.json", read_json(folder / "history.json"))
        return subject

    def _cuts(self, subject: Subject) -> tuple[ChannelCut, ...]:
        """Returns the cuts that this step has made."""
        added = subject.surgery[len(self.subject.surgery) :]
        return tuple(change for change in added if isinstance(change, ChannelCut))

    def _slimmed(self, subject: Subject, choose: Choice, allowed: Allowed, first: ChannelGraph) -> Subject:
        """One round's pruning of the groups that the first plan was made for, whatever is left of them."""
        known = after(first, self._cuts(subject), subject.module)
        found = self._pruned(subject, choose, allowed, known)
        return subject.with_changes(found.cut).with_module(found.module)

    def _trained(self, subject: Subject, schedule: Iterative, context: StepContext) -> Subject:
        """Trains one round, which the context gives a seed of its own: the others' order would teach the same again."""
        options = schedule.retrain
        loss = options.build_loss(self.subject, context)
        fit(subject.module, options, loss, context, surgery=subject.surgery)
        return subject

    def _while_training(self, first: Pruned, schedule: Exponential) -> Subject:
        """Trains once from beginning to end; channels are masked on the way."""
        subject, options = self.subject, schedule.retrain
        removal = RemovalObserver(
            first.graph,
            RemovalSchedule(schedule.start, schedule.every, schedule.steps),
            self.score,
            self._evidence(subject),
            self.limits,
            allowed_by(first.graph, self.limits),
            lambda planner, number: self._step(planner, number, schedule.steps),
            by_gradients=self.method.score.startswith("taylor"),
            slim=schedule.slim == "each",
            why=self.why,
            soft=schedule.masks == "soft",
            allocator=self.allocator,
        )
        loss = options.build_loss(subject, self.context)
        fit(subject.module, options, loss, self.context, [removal], surgery=subject.surgery)
        subject = subject.with_changes(*removal.cuts)
        if schedule.slim == "each":
            return subject
        rest = carried_out(subject.module, removal.plan(), self.why)
        return subject.with_changes(rest.cut).with_module(rest.module)

    # What is told.

    def _tell(self, whole: _First, result: Subject) -> None:
        """Says what was reached, under the same counter as the request."""
        first, allowed = whole.pruned, whole.allowed.after(self._cuts(result))
        widths = tuple(
            Width(group=name, before=width, after=allowed.left[name]) for name, width in allowed.widths.items()
        )
        left = sum(allowed.left[name] for name in allowed.removable)
        amounts = self._amounts(whole.channels, left, result)
        record = PlanRecord(
            device=self.device if self.by_latency else "",
            target=self.method.target if self.by_latency else "",
            widths=widths,
            amounts=tuple(amounts),
            dropped=tuple(drop.block for drop in whole.drops),
            loss=whole.loss,
            estimated=self.latencies.estimated,
        )
        self.context.record(NAME, record)
        gone = 1 - left / whole.channels if whole.channels else 0.0
        self.context.monitor.say(f"Removed {gone:.1%} of the channels that may go: {', '.join(record.outcome())}.")
        for layer in first.graph.withheld:
            self.context.monitor.warn(f"The channels of {layer.layer} stay: {layer.reason}")
        for operator, layers in first.graph.stopped_by().items():
            where = ", ".join(layers[:3]) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
            self.context.monitor.warn(
                f"Operator {operator} is not supported; these layers were left unpruned: {where}."
            )
        self.context.monitor.event(
            "pruned",
            sparsity=gone,
            **{one.figure: [one.before, one.after] for one in amounts},
            difference=first.difference,
            stays={frozen.layer: frozen.reason for frozen in first.graph.frozen},
        )
        self._judge(record)

    def _judge(self, record: PlanRecord) -> None:
        """Warns where clearly more remains than was asked for; a strict step fails."""
        short = [str(one) for one in record.asked if one.short]
        if short:
            message = f"More than {SHORT:.0%} short of what was asked for: {'; '.join(short)}."
            if self.method.strict:
                raise BudgetError(
                    f"{message} Ask for less removal, loosen `exclude`, `min_channels`, `min_fraction` or `align`, or "
                    "leave `strict` out to go on with a warning."
                )
            self.context.monitor.warn(message)

    def _amounts(self, channels: int, left: int, result: Subject) -> list[Amount]:
        """All figures that a budget may limit, before and after."""
        shape = self.subject.input_shape
        before, after, asked = self.before, count(result.module, shape), self.request.asked
        found = [
            *([Amount(figure=CHANNELS, before=channels, after=left, budget=asked.get(CHANNELS))] if channels else ()),
            Amount(figure="params", before=before.params, after=after.params, budget=asked.get("params")),
            Amount(figure="macs", before=before.macs, after=after.macs, budget=asked.get("macs")),
            Amount(figure=SIZE, before=BYTES * before.params, after=BYTES * after.params, budget=asked.get(SIZE)),
        ]
        if self.by_latency:
            ns, request = self.latencies.predicted(result.module, self.aim.lessons), self.request
            found.append(Amount(figure=LATENCY, before=request.dense[LATENCY], after=ns, budget=request.left[LATENCY]))
            found.append(self._whole(result))
        return found

    def _whole(self, result: Subject) -> Amount:
        """Measures the whole model's latency beside the unpruned one's; warns if it exceeds what was asked for."""
        dense, slim, _ = self.latencies.whole(result.module)
        found = Amount(figure=WHOLE_LATENCY, before=dense, after=slim, budget=self._allowed(dense))
        if slim > self._allowed(dense):
            self.context.monitor.warn(f"The pruned model takes longer on {self.device} than was asked for: {found}.")
        return found
