"""Pruning while a model is trained: channels are masked every few updates, and removed at once or in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgecr.errors import RequestError
from edgecr.surgery.cost import Cost
from edgecr.surgery.evidence import Evidence
from edgecr.surgery.graph import ChannelGraph, trace_channels
from edgecr.surgery.plan import Allowed, Limits, Plan, Planner
from edgecr.surgery.prune import carried_out
from edgecr.surgery.removal import ChannelCut, as_positions
from edgecr.surgery.scores import Score, Values
from edgecr.surgery.slots import Ids
from edgecr.surgery.taylor import Products
from edgecr.training.observers import Observer
from edgecr.training.session import Session


@dataclass(frozen=True)
class Moments:
    """When channels go: ``steps`` times, every so many updates after the first epochs."""

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
        """Whether the update after this many ones falls between two steps."""
        begin = self.began(per_epoch)
        return begin <= update < begin + self.steps * self.every


class OwnGradients(Evidence):
    """Evidence of one update of a training: its own gradients, at no further cost."""

    def __init__(self, session: Session, seed: int) -> None:
        super().__init__(session.module, seed=seed)
        tensors = dict(session.module.named_parameters())
        found = Products.of(tensors, {name: tensor.grad for name, tensor in tensors.items()})
        self.__dict__["products"] = [found]


class Removal(Observer):
    """Lets channels go at the moments of a schedule; what is gone never returns.

    ``choose`` turns a planner into the plan of a step. Scores by gradients are averaged over the updates between
    two steps; the others are computed when a step is due.
    """

    def __init__(
        self, graph: ChannelGraph, moments: Moments, score: Score, evidence: Evidence, limits: Limits,
        allowed: Allowed, choose: Callable[[Planner, int], Plan], *, by_gradients: bool, slim: bool, why: str,
    ) -> None:
        self.graph, self.moments, self.score, self.evidence = graph, moments, score, evidence
        self.limits, self.allowed, self.choose = limits, allowed, choose
        self.by_gradients, self.slim, self.why = by_gradients, slim, why
        self.dead: list[Ids] = []
        self.cuts: list[ChannelCut] = []
        """Channels that are removed already."""

    def at_start(self, session: Session) -> None:
        """Goes on from what a checkpoint knows, and looks at gradients before each update."""
        self._check(session)
        self._follow(session)
        if "dead/0" not in session.kept:
            self._forget(session, [np.array([], dtype=np.int64) for _ in self.graph.groups])
        self.dead = [session.kept[f"dead/{n}"].numpy() for n in range(len(self.graph.groups))]

    def _check(self, session: Session) -> None:
        needed = self.moments.began(session.steps.per_epoch) + self.moments.every * self.moments.steps
        if needed > session.steps.total:
            raise RequestError(
                f"The schedule needs {needed:,} updates, but the training has {session.steps.total:,} "
                f"({session.steps.per_epoch:,} in an epoch). Lower steps, every or start, or train longer."
            )
        if session.fabric.world_size > 1:
            raise RequestError("Pruning while training runs on one device only; use one, or an iterative schedule.")

    def _follow(self, session: Session) -> None:
        """Fits itself to the module as it is now."""
        self.cuts = session.cuts
        if session.cuts:
            self.graph = trace_channels(session.module, self.graph.input_shape, cautious=self.graph.trace.cautious)
        if self.by_gradients:
            session.optimiser.register_step_pre_hook(lambda *_: self._look(session))

    def _look(self, session: Session) -> None:
        """Adds the importance that this update's gradients show."""
        if not self.moments.counts(session.step_number, session.steps.per_epoch):
            return
        evidence = OwnGradients(session, self.evidence.seed)
        for number, group in enumerate(self.graph.groups):
            session.kept[f"importance/{number}"] += torch.from_numpy(self.score(group, evidence))

    def after_step(self, session: Session) -> None:
        """Lets channels go when it is time."""
        number = self.moments.step_after(session.step_number, session.steps.per_epoch)
        if number is None:
            return
        cost = Cost(session.module, self.graph)
        planner = Planner(self.graph, cost, self._values(session), self.limits, allowed=self.allowed, dead=self.dead)
        plan = self.choose(planner, number)
        if self.slim:
            self._remove(session, plan)
        else:
            session.masks.hold(masks_of(session.module.named_parameters(), plan.cut()))
            self._forget(session, plan.removed)

    def _values(self, session: Session) -> list[Values]:
        if self.by_gradients:
            groups = range(len(self.graph.groups))
            return [session.kept[f"importance/{n}"].numpy() / self.moments.every for n in groups]
        evidence = Evidence(session.module, self.evidence.normalise, self.evidence.seed, self.evidence.batches)
        return [self.score(group, evidence) for group in self.graph.groups]

    def _remove(self, session: Session, plan: Plan) -> None:
        session.slim(carried_out(session.module, plan, self.why).cut)
        self._follow(session)
        self._forget(session, [np.array([], dtype=np.int64) for _ in self.graph.groups])

    def _forget(self, session: Session, dead: Sequence[Ids]) -> None:
        """Begins anew to gather importance."""
        self.dead = list(dead)
        session.kept = {f"dead/{n}": torch.from_numpy(ids) for n, ids in enumerate(self.dead)}
        for number, group in enumerate(self.graph.groups if self.by_gradients else ()):
            session.kept[f"importance/{number}"] = torch.zeros(group.width, dtype=torch.float64)

    def plan(self) -> Plan:
        """What is masked but still there."""
        kept = np.array([g.width - len(d) for g, d in zip(self.graph.groups, self.dead)], dtype=np.int64)
        return Plan(self.graph, kept, tuple(self.dead))


def masks_of(parameters: Any, cut: ChannelCut) -> dict[str, Tensor]:
    """0 where a parameter makes or normalises channels that are to go."""
    tensors, masks = dict(parameters), dict[str, Tensor]()
    for one in cut.tensors:
        if one.role == "out" and one.tensor in tensors:
            like = tensors[one.tensor]
            mask = masks.setdefault(one.tensor, torch.ones(like.shape, dtype=torch.bool, device=like.device))
            mask.index_fill_(one.dim, torch.tensor(as_positions(one.removed), device=like.device), False)
    return masks
