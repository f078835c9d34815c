"""The latencies on a pruning step's device: of layers by the step's own table, of whole models by measuring.

Everything that was measured lies in the step's folder: a resumed step plans with the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

from torch import nn

from edgecr.core.files import fingerprint, read_json, write_json
from edgecr.latency import CalibrationPoint, LatencyTable, LayerConfig
from edgecr.methods.prune.latency_search import Lessons
from edgecr.subject import Subject
from edgecr.surgery.planning.latency import plan_by_latency
from edgecr.surgery.planning.latency_figure import NS_PER_MS
from edgecr.surgery.planning.layers import configurations
from edgecr.surgery.planning.plan import Plan, Planner
from edgecr.training.context import PLAIN_FILES, StepContext

SESSIONS, CALM = 3, 1.03
"""In how many sessions whole models are measured at most, and how much slower than ever the subject may be in one."""


class Whole(NamedTuple):
    """Latencies of whole models in nanoseconds, measured beside each other."""

    dense: int
    slim: int
    calm: bool
    """True if the subject was as fast as in other sessions, so that the pair is fit for calibration."""


class Latencies:
    """The latencies of one subject and of what pruning makes of it, on one device, as files of one export target."""

    def __init__(
        self, context: StepContext, subject: Subject, device: str, batch: int, target: str = PLAIN_FILES
    ) -> None:
        self.context, self.subject, self.device, self.batch, self.target = context, subject, device, batch, target
        self._table_file, self._whole_file = context.folder / "latency.json", context.folder / "whole-models.json"
        self.estimated: tuple[str, ...] = ()
        """The layers of the last plan whose times were interpolated when it was chosen."""

    @cached_property
    def _table(self) -> LatencyTable:
        """The table that this step plans by; its own copy, so that a resumed step plans alike."""
        if self._table_file.is_file():
            return LatencyTable.load(self._table_file)
        table = self.context.latencies.table(self.device, self.subject, self.batch, self.target)
        table.save(self._table_file)
        return table

    @property
    def step(self) -> int:
        """The multiple of channels at which latency steps by the table; 1 where it shows no staircase."""
        return self._table.step

    def _taught(self, lessons: Lessons) -> LatencyTable:
        """The table with a calibration that knows the plans that were measured, too; it is not stored."""
        return self._table.calibrated(lessons) if lessons else self._table

    def plan(self, planner: Planner, choose: Callable[[Planner], Plan], lessons: Lessons) -> Plan:
        """A plan for which what the table lacks was measured; one that rests on estimates nevertheless is told."""
        found = plan_by_latency(planner, self.batch, self._taught(lessons), self._measure, choose)
        self.estimated = found.estimated
        if found.estimated:
            self.context.monitor.warn(
                f"This plan rests on estimates: the latency on {self.device} of {len(found.estimated)} of its layers "
                f"was interpolated when it was chosen ({found.estimated[0]}). Fill the table with `edgecr "
                f"latency-table build --target {self.target}`, and plan again."
            )
        return found.plan

    def _measure(self, table: LatencyTable, layers: Sequence[LayerConfig]) -> LatencyTable:
        measured = self.context.latencies.measured(self.device, layers, self.target)
        found = {config.key: measured.entries[config.key] for config in layers}
        self._table = self._table.extended(found)
        self._table.save(self._table_file)
        return table.extended(found)

    def predicted(self, module: nn.Module, lessons: Lessons) -> int:
        """The latency of a module by the table, in nanoseconds."""
        reached = self._taught(lessons).network_latency(self._layers(module), estimate=True)
        if reached.estimated:
            self.context.monitor.warn(f"The latency rests on {len(reached.estimated)} layers that were not measured.")
        return round(reached.ms * NS_PER_MS)

    def _layers(self, module: nn.Module) -> list[LayerConfig]:
        return configurations(module, self.subject.input_shape, self.batch)

    def whole(self, module: nn.Module) -> Whole:
        """The latencies of the subject and of a slimmed module as whole models, measured beside each other."""
        found: dict[str, list[int]] = read_json(self._whole_file) if self._whole_file.is_file() else {}
        key = self.key(module)
        if key not in found:
            best = [best for _, _, best in found.values()]
            dense, slim = self._calm_pair(module, best)
            found[key] = [dense, slim, min([dense, *best])]
            write_json(self._whole_file, found)
        dense, slim, best_dense = found[key]
        return Whole(dense, slim, calm=dense <= CALM * best_dense)

    def learnt(self, module: nn.Module, whole: Whole, lessons: Lessons) -> Lessons:
        """The lessons with the part of the subject's latency that a module really takes, for the plans that follow."""
        if not whole.calm:
            return lessons
        own, slim = (self._table.sums(self._layers(one), estimate=True) for one in (self.subject.module, module))
        usual = self._table.calibration.apply(own)
        both = {"unpruned": (own, usual), self.key(module): (slim, usual * (whole.slim / whole.dense))}
        known = {lesson.model for lesson in lessons}
        return lessons + tuple(
            CalibrationPoint(model=name, sums=sums, measured_ms=ms)
            for name, (sums, ms) in both.items()
            if name not in known
        )

    def key(self, module: nn.Module) -> str:
        """A text that modules with the same layers have in common: they take the same time."""
        return fingerprint([config.key for config in self._layers(module)])

    def _calm_pair(self, module: nn.Module, known: Sequence[int]) -> list[int]:
        """Both latencies from the session in which the subject was fastest.

        What else runs on a machine slows small and large models differently, so even a ratio is wrong then. The
        subject shows it: a session counts once the subject is nearly as fast as in the best of the others.
        """
        pair, best = (self.subject, self.subject.with_module(module)), min(known, default=None)
        sessions: list[list[int]] = []
        while len(sessions) < SESSIONS:
            found = self.context.latencies.whole(self.device, pair, self.batch, self.target)
            session = [round(ms * NS_PER_MS) for ms in found]
            sessions.append(session)
            if best is not None and session[0] <= CALM * best:
                break
            best = min(session[0], best or session[0])
        return min(sessions)
