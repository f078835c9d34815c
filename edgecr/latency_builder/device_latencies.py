"""Devices as methods may ask about them: the widths that they prefer, and latencies, measured on demand."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from typing_extensions import override

from edgecr.core.progress import Monitor
from edgecr.exporters.base import load_target
from edgecr.latency import LatencyTable, LayerConfig
from edgecr.latency_builder.builder import TableBuilder, default_path
from edgecr.latency_builder.fill import exported, fill
from edgecr.latency_builder.forms import load_measurable, runtime_of
from edgecr.runners.base import usable_device
from edgecr.subject import Subject
from edgecr.training.context import PLAIN_FILES, DeviceLatencies


class AgentLatencies(DeviceLatencies):
    """Asks device declarations, and the devices themselves.

    Tables lie in a folder; without one, where ``edgecr latency-table`` keeps them.
    """

    def __init__(self, monitor: Monitor, tables: Path | None = None) -> None:
        self.monitor, self.tables = monitor, tables
        self._opened: set[str] = set()

    def _builder(self, device: str, target: str) -> TableBuilder:
        """A session with a device; only the first one tells what is wrong with it."""
        first, declared = device not in self._opened, usable_device(device)
        asked = load_measurable(target)
        runtime = runtime_of(declared, asked)
        self._opened.add(device)
        path = self.tables / default_path(declared, runtime, asked).name if self.tables else None
        return TableBuilder(declared, runtime, path, target=asked, monitor=self.monitor, warn=first)

    @override
    def align(self, device: str, target: str = PLAIN_FILES) -> int:
        declared = usable_device(device)
        return load_target(target).block or declared.align

    @override
    def table(self, device: str, subject: Subject, batch: int, target: str = PLAIN_FILES) -> LatencyTable:
        self.monitor.say(f"Latency table of {device} for {target}: measuring what it lacks for this model")
        with self._builder(device, target) as builder:
            name = f"{subject.architecture.arch}, batch {batch}"
            return fill(builder, subject, name, batch=batch).table

    @override
    def measured(self, device: str, layers: Sequence[LayerConfig], target: str = PLAIN_FILES) -> LatencyTable:
        with self._builder(device, target) as builder:
            builder.measure(layers)
            return builder.table

    @override
    def whole(self, device: str, subjects: Sequence[Subject], batch: int, target: str = PLAIN_FILES) -> list[float]:
        with (
            tempfile.TemporaryDirectory(prefix="edgecr-models-") as folder,
            self._builder(device, target) as builder,
        ):
            models = [
                exported(one, str(number), batch, Path(folder), builder.target) for number, one in enumerate(subjects)
            ]
            return [one.evidence.measured_ms for one in builder.weigh(models)]
