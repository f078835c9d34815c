"""Devices as methods may ask about them: the widths that they prefer, and latencies, measured on demand."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from edgecr.latency import LatencyTable, LayerConfig
from edgecr.methods.base import Bench
from edgecr.progress import Monitor
from edgecr.runners.base import load_device
from edgecr.runners.latency_table import TableBuilder
from edgecr.subject import Subject
from edgecr.tables import fill


class DeviceBench(Bench):
    """Asks device declarations, and the devices themselves; tables lie where ``edgecr latency-table`` keeps them."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    @override
    def align(self, device: str) -> int:
        return load_device(device).align

    @override
    def table(self, device: str, subject: Subject, batch: int) -> LatencyTable:
        self.monitor.say(f"Latency table of {device}: measuring what it lacks for this model")
        declared = load_device(device)
        with TableBuilder(declared, monitor=self.monitor) as builder:
            name = f"{subject.architecture.arch}, batch {batch}"
            return fill(builder, subject, name, batch=batch).table

    @override
    def measured(self, device: str, layers: Sequence[LayerConfig]) -> LatencyTable:
        with TableBuilder(load_device(device), monitor=self.monitor) as builder:
            builder.measure(layers)
            return builder.table
