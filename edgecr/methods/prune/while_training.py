"""Pruning while a model is trained: channels are masked every few updates, and removed at once or in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgecr.core.errors import RequestError, UnsupportedModel
from edgecr.surgery.carry_out import carried_out, hidden
from edgecr.surgery.changes.cut import ChannelCut, as_positions
from edgecr.surgery.planning.cost import Cost
from edgecr.surgery.planning.plan import Plan, Planner
from edgecr.surgery.planning.widths import Allowed, Limits
from edgecr.surgery.scoring.inputs import ScoringInputs
from edgecr.surgery.scoring.scores import Allocator, Score, Values
from edgecr.surgery.scoring.taylor import Products
from edgecr.surgery.tracing.after import after
from edgecr.surgery.tracing.graph import ChannelGraph
from edgecr.surgery.tracing.slots import Ids
from edgecr.surgery.tracing.trace import Role
from edgecr.training.observers import Observer
from edgecr.training.session import TrainingState


@dataclass(frozen=True)
class RemovalSchedule:
    """The moments at which channels go: ``steps`` times, every so many updates after the first epochs."""

    start: float
    """Epochs before the first time."""
    every: int
    steps: int

    def began(self, per_epoch: int) -> int:
        """The update from which importance counts."""
        return round(self.start * per_epoch)

    def step_after(self, update: int, per_epoch: int) -> int | None:
        """The number of the step that is due after this many updates, if one is."""
        number, rest = divmod(update - self.began(per_epoch), self.every)
        return number if rest == 0 and 1 <= number <= self.steps else None

    def counts(self, update: int, per_epoch: int) -> bool:
        """Returns True if the update after this many contributes to the averaged importance."""
        begin = self.began(per_epoch)
        return begin <= update < begin + self.steps * self.every


def own_gradients(session: TrainingState, seed: int) -> ScoringInputs:
    """The scoring inputs of one update of a training: its own gradients, at no further cost."""
    tensors = dict(session.module.named_parameters())
    found = Products.of(tensors, {name: tensor.grad for name, tensor in tensors.items()})
    return ScoringInputs(session.module, seed=seed, ready=(found,))


class RemovalObserver(Observer):
    """Lets channels go at the moments of a schedule.

    What is gone never returns; with ``soft`` masks every step chooses anew among all channels until the last one, and
    those that are not chosen are hidden from the layers that read them. ``choose`` turns a planner into the plan of
    a step. Scores by gradients are averaged over the updates between two steps; the others are computed when a step
    is due.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        moments: RemovalSchedule,
        score: Score,
        evidence: ScoringInputs,
        limits: Limits,
        allowed: Allowed,
        choose: Callable[[Planner, int], Plan],
        *,
        by_gradients: bool,
        slim: bool,
        why: str,
        soft: bool = False,
        allocator: Allocator | None = None,
    ) -> None:
        self.graph, self.first, self.moments, self.score, self.evidence = graph, graph, moments, score, evidence
        self.limits, self.allowed, self.choose = limits, allowed, choose
        self.by_gradients, self.slim, self.soft, self.why = by_gradients, slim, soft, why
        self.allocator = allocator
        self.dead: list[Ids] = []
        self.cuts: list[ChannelCut] = []
        """Channels that are removed already."""

    def at_start(self, session: TrainingState) -> None:
        """Goes on from what a checkpoint knows, and looks at gradients before each update."""
        self._check(session)
        self._follow(session)
        if self.soft:
            self._check_readers(session)
        if self.by_gradients:
            session.gradient_hooks.append(partial(self._look, session))
        if "dead/0" not in session.kept:
            self._forget(session)
        self.dead = [session.kept[f"dead/{n}"].numpy() for n in range(len(self.graph.groups))]

    def _check(self, session: TrainingState) -> None:
        needed = self.moments.began(session.steps.per_epoch) + self.moments.every * self.moments.steps
        if needed > session.steps.total:
            raise RequestError(
                f"The schedule needs {needed:,} updates, but the training has {session.steps.total:,} "
                f"({session.steps.per_epoch:,} in an epoch). Lower steps, every or start, or train longer."
            )
        if session.fabric.world_size > 1:
            raise RequestError("Pruning while training runs on one device only; use one, or an iterative schedule.")

    def _check_readers(self, session: TrainingState) -> None:
        """Refuses soft masks where something but the weights of a layer reads channels, and would go on doing so."""
        halves = [np.arange(group.width // 2) for group in self.graph.groups]
        try:
            hidden(session.module, self._plan_without(halves))
        except UnsupportedModel as error:
            raise RequestError(
                "masks: soft hides channels from the weights that read them, but in this model something else reads "
                "some of them too. Use masks: hard."
            ) from error

    def _follow(self, session: TrainingState) -> None:
        """Fits itself to the module as it is now."""
        self.cuts = session.cuts
        self.graph = after(self.first, session.cuts, session.module)

    def _look(self, session: TrainingState) -> None:
        """Adds the importance that this update's gradients show."""
        if not self.moments.counts(session.step_number, session.steps.per_epoch):
            return
        evidence = own_gradients(session, self.evidence.seed)
        for number, group in enumerate(self.graph.groups):
            session.kept[f"importance/{number}"] += torch.from_numpy(self.score(group, evidence))

    def after_step(self, session: TrainingState) -> None:
        """Lets channels go when it is time."""
        number = self.moments.step_after(session.step_number, session.steps.per_epoch)
        if number is None:
            return
        plan = self.choose(self._planner(session), number)
        if self.slim:
            self._remove(session, plan)
        elif self.soft and number < self.moments.steps:
            session.masks.hide(masks_of(session.module.named_parameters(), plan.cut(), "in"))
            self._forget(session)
        else:
            session.masks.hide({})
            session.masks.prune(masks_of(session.module.named_parameters(), plan.cut()))
            self._forget(session, plan.removed)

    def _planner(self, session: TrainingState) -> Planner:
        """Returns the planner of the next step, with the beginning of the training as its reference."""
        evidence = replace(self.evidence, module=session.module)
        allocation = self.allocator(self.graph.groups, evidence) if self.allocator is not None else None
        return Planner(
            self.graph,
            Cost(session.module, self.graph),
            self._values(session, evidence),
            self.limits,
            allowed=self.allowed.after(self.cuts),
            dead=self.dead,
            allocation=allocation,
        )

    def _values(self, session: TrainingState, evidence: ScoringInputs) -> list[Values]:
        if self.by_gradients:
            groups = range(len(self.graph.groups))
            return [session.kept[f"importance/{n}"].numpy() / self.moments.every for n in groups]
        return [self.score(group, evidence) for group in self.graph.groups]

    def _remove(self, session: TrainingState, plan: Plan) -> None:
        session.slim(carried_out(session.module, plan, self.why).cut)
        self._follow(session)
        self._forget(session)

    def _forget(self, session: TrainingState, dead: Sequence[Ids] = ()) -> None:
        """Begins anew to gather importance, of all channels but the dead ones."""
        self.dead = list(dead) or [np.array([], dtype=np.int64) for _ in self.graph.groups]
        session.kept = {f"dead/{n}": torch.from_numpy(ids) for n, ids in enumerate(self.dead)}
        for number, group in enumerate(self.graph.groups if self.by_gradients else ()):
            session.kept[f"importance/{number}"] = torch.zeros(group.width, dtype=torch.float64)

    def plan(self) -> Plan:
        """Returns the plan that removes the channels which are masked but still there."""
        return self._plan_without(self.dead)

    def _plan_without(self, gone: Sequence[Ids]) -> Plan:
        kept = np.array([g.width - len(ids) for g, ids in zip(self.graph.groups, gone)], dtype=np.int64)
        return Plan(self.graph, kept, tuple(gone))


def masks_of(parameters: Any, cut: ChannelCut, role: Role = "out") -> dict[str, Tensor]:
    """0 where a parameter makes or normalises, or where it reads, channels that are to go."""
    tensors, masks = dict(parameters), dict[str, Tensor]()
    for one in cut.tensors:
        if one.masked_by(role) and one.tensor in tensors:
            like = tensors[one.tensor]
            mask = masks.setdefault(one.tensor, torch.ones(like.shape, dtype=torch.bool, device=like.device))
            mask.index_fill_(one.dim, torch.tensor(as_positions(one.removed), device=like.device), False)
    return masks
