"""How pruning goes about its work: at once, in rounds, or while the model is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from edgecr.files import fingerprint, read_json, write_json
from edgecr.latency import LatencyTable, LayerConfig
from edgecr.methods.base import Lab
from edgecr.methods.prune_options import Exponential, Iterative, PruneOptions
from edgecr.subject import Subject
from edgecr.surgery.counters import count
from edgecr.surgery.figures import BYTES, LATENCY, SIZE
from edgecr.surgery.latency_plan import NANOSECONDS, amounts_after, plan_by_latency
from edgecr.surgery.layers import configurations
from edgecr.surgery.plan import MULTIPLES, Allowed, Limits, Plan, Planner, allowed_by
from edgecr.surgery.plan_record import Amount, PlanRecord, widths_after
from edgecr.surgery.prune import Choice, Pruned, carried_out, prune_channels
from edgecr.surgery.scores import Evidence, scores
from edgecr.training.checkpoint import discard
from edgecr.training.loop import fit
from edgecr.training.losses import CrossEntropy
from edgecr.training.pruning import Moments, Removal
from edgecr.training.sample import TrainingSample
from edgecr.weights import hash_tensors


class Pruning:
    """One pruning step of a recipe on one subject."""

    def __init__(self, method: PruneOptions, subject: Subject, lab: Lab) -> None:
        self.method, self.subject, self.lab = method, subject, lab
        self.device, self.batch = method.device or "cpu", method.batch or 1
        self.score = scores.get(method.score)
        self.why = f"{method.score}, {method.scope}"
        self.before = count(subject.module, subject.input_shape)
        self.dense: dict[str, int] = {}
        self.left: dict[str, int] = {}

    @cached_property
    def limits(self) -> Limits:
        """What every plan respects; automatic alignment follows the device."""
        method, most = self.method, self.lab.bench.align(self.device)
        multiples = tuple(dict.fromkeys([most, *(m for m in MULTIPLES if m < most)]))
        return Limits(
            method.align, method.min_channels, method.min_fraction, method.keep, method.max_fraction,
            tuple(m for m in multiples if m > 1),
        )

    @property
    def by_latency(self) -> bool:
        """Whether a budget of latency was given."""
        return self.method.budget is not None and self.method.budget.latency is not None

    def done(self) -> Subject:
        """The pruned subject; its plan is told, logged and stored."""
        first = self._pruned(self.subject, self._choose_all)
        schedule = self.method.schedule
        if isinstance(schedule, Iterative):
            result = self._in_rounds(first, schedule)
        elif isinstance(schedule, Exponential):
            result = self._while_training(first, schedule)
        else:
            result = self.subject.cut(first.cut).with_module(first.module)
        self._tell(first, result)
        return result

    def _pruned(self, subject: Subject, choose: Choice, allowed: Allowed | None = None) -> Pruned:
        return prune_channels(
            subject.input_shape, self.score, self._evidence(subject), self.limits, choose, self.why,
            allowed,
        )

    def _evidence(self, subject: Subject) -> Evidence:
        images = TrainingSample(self.lab.data, self.lab.seed)
        return Evidence(subject.module, self.method.normalise, self.lab.seed, images)

    # Budgets.

    def _choose_all(self, planner: Planner) -> Plan:
        """The whole pruning at once: the result, or the proof that several steps can get there."""
        method = self.method
        shares = method.budget.shares() if method.budget else planner.share_left(method.sparsity or 0.0)
        plan = self._plan(planner, shares)
        if method.sparsity is not None and method.scope == "layer":
            plan = planner.by_sparsity("layer", method.sparsity)
        self.dense = {name: planner.figure(name, planner.cost.widths) for name in shares}
        self.left = {n: min(amount, self.dense[n]) for n, amount in planner.amounts(shares).items()}
        return plan

    def _plan(self, planner: Planner, shares: Mapping[str, int | float]) -> Plan:
        choose = partial(Planner.by_budget, scope=self.method.scope, shares=shares)
        if LATENCY not in shares:
            return choose(planner)
        timed = plan_by_latency(planner, self.batch, self._table, self._measure, choose)
        self._table = timed.table
        return timed.plan

    def _step(self, planner: Planner, number: int, steps: int) -> Plan:
        """The plan of one of several steps; its real figures are logged."""
        amounts = amounts_after(number, steps, self.dense, self.left)
        plan = self._plan(planner, amounts)
        reached = {name: planner.figure(name, plan.kept) for name in amounts}
        self.lab.monitor.event("pruning step", step=number, steps=steps, budget=amounts, reached=reached)
        return plan

    # Latencies.

    @cached_property
    def _table(self) -> LatencyTable:
        """The table that this step plans by; its own copy, so that a resumed step plans alike."""
        if self._table_file.is_file():
            return LatencyTable.load(self._table_file)
        table = self.lab.bench.table(self.device, self.subject, self.batch)
        table.save(self._table_file)
        return table

    @property
    def _table_file(self) -> Path:
        return self.lab.folder / "latency.json"

    def _measure(self, table: LatencyTable, layers: Sequence[LayerConfig]) -> LatencyTable:
        measured = self.lab.bench.measured(self.device, layers)
        table = table.extended({config.key: measured.entries[config.key] for config in layers})
        table.save(self._table_file)
        return table

    # Schedules.

    def _in_rounds(self, first: Pruned, schedule: Iterative) -> Subject:
        """Prunes a bit and trains, several times; each finished round stays where a killed run finds it."""
        allowed = allowed_by(first.graph, self.limits)
        subject = self.subject
        for number in range(1, schedule.steps + 1):
            folder = self.lab.folder / f"round-{number:02d}"
            key = fingerprint([self.method.plain(), self.lab.seed, hash_tensors(subject.module.state_dict())])
            choose = partial(self._step, number=number, steps=schedule.steps)
            start = self._kept(folder / "pruned", key, partial(self._slimmed, subject, choose, allowed))
            subject = self._kept(folder / "subject", key, partial(self._trained, start, schedule, folder))
            discard(folder)
        write_json(self.lab.folder / "history.json", read_json(folder / "history.json"))
        return subject

    def _kept(self, folder: Path, key: str, make: Callable[[], Subject]) -> Subject:
        """What an earlier attempt made of the same, or what is made now."""
        record = folder.with_suffix(".json")
        if not (record.is_file() and read_json(record) == {"key": key}):
            make().save(folder)
            write_json(record, {"key": key})
        return Subject.load(folder, allow_code=self.lab.execution.allow_code)

    def _slimmed(self, subject: Subject, choose: Choice, allowed: Allowed) -> Subject:
        found = self._pruned(subject, choose, allowed)
        return subject.cut(found.cut).with_module(found.module)

    def _trained(self, subject: Subject, schedule: Iterative, folder: Path) -> Subject:
        options = schedule.retrain
        fit(subject.module, options, CrossEntropy(options.label_smoothing), replace(self.lab, folder=folder))
        return subject

    def _while_training(self, first: Pruned, schedule: Exponential) -> Subject:
        """Trains once from beginning to end; channels are masked on the way."""
        subject, options = self.subject, schedule.retrain
        removal = Removal(
            first.graph, Moments(schedule.start, schedule.every, schedule.steps), self.score,
            self._evidence(subject), self.limits, allowed_by(first.graph, self.limits),
            lambda planner, number: self._step(planner, number, schedule.steps),
            by_gradients=self.method.score.startswith("taylor"), slim=schedule.slim == "each", why=self.why,
        )
        fit(subject.module, options, CrossEntropy(options.label_smoothing), self.lab, [removal])
        subject = subject.cut(*removal.cuts)
        if schedule.slim == "each":
            return subject
        rest = carried_out(subject.module, removal.plan(), self.why)
        return subject.cut(rest.cut).with_module(rest.module)

    # What is told.

    def _tell(self, first: Pruned, result: Subject) -> None:
        """Says what was reached, under the same counter as the request."""
        cuts = result.surgery[len(self.subject.surgery) :]
        widths = widths_after([(group.name, group.width) for group in first.graph.groups], cuts)
        amounts = self._amounts(first, result)
        record = PlanRecord(device=self.device if self.by_latency else "", widths=widths, amounts=tuple(amounts))
        record.save(self.lab.folder)
        gone = 1 - sum(one.after for one in widths) / sum(one.before for one in widths)
        told = ", ".join(map(str, amounts))
        self.lab.monitor.say(f"Removed {gone:.1%} of the channels of {len(widths)} groups: {told}.")
        for operator, layers in first.graph.stopped_by().items():
            where = ", ".join(layers[:3]) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
            self.lab.monitor.warn(f"Channels that meet operator {operator} in {where} stay: it is not known.")
        self.lab.monitor.event(
            "pruned",
            sparsity=gone,
            **{one.figure: [one.before, one.after] for one in amounts},
            difference=first.difference,
            stays={frozen.layer: frozen.reason for frozen in first.graph.frozen},
        )

    def _amounts(self, first: Pruned, result: Subject) -> list[Amount]:
        """All figures that a budget may limit, before and after."""
        shape = self.subject.input_shape
        before, after, left = self.before, count(result.module, shape), self.left
        found = [
            Amount(figure="params", before=before.params, after=after.params, budget=left.get("params")),
            Amount(figure="macs", before=before.macs, after=after.macs, budget=left.get("macs")),
            Amount(figure=SIZE, before=BYTES * before.params, after=BYTES * after.params, budget=left.get(SIZE)),
        ]
        if self.by_latency:
            layers = configurations(result.module, shape, self.batch)
            reached = self._table.network_latency(layers, estimate=True)
            if reached.estimated:
                self.lab.monitor.warn(f"The latency rests on {len(reached.estimated)} layers that were not measured.")
            ns = round(reached.ms * NANOSECONDS)
            found.append(Amount(figure=LATENCY, before=self.dense[LATENCY], after=ns, budget=left[LATENCY]))
        return found
