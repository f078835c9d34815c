"""Contention for the processor during a timing, and the limits above which the time is not the model's alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecr.runners.device import Protocol
from edgecr.runners.measurement.record import Program, Rate, Round
from edgecr.runners.measurement.statistics import wait_share

TICK_NS = 10_000_000
"""The kernel's unit of stolen time; the same on every architecture that boards have."""
UNKNOWN = "its kernel tells no {what}, as in some containers, so nothing shows that the processor was not shared"


@dataclass(frozen=True)
class Contention:
    """The contention for the processor during some spans; figures are None where the kernel does not report them."""

    wait: float | None
    """Share of the wanted processor time that was waiting in the run queue."""
    steal: float | None
    """Share of the elapsed time that the hypervisor gave to others, at most."""
    switches: float | None
    """Forced context switches in a second."""

    @classmethod
    def during(cls, timed: Sequence[Round] | Sequence[Rate]) -> Contention:
        """Over several spans of time together."""
        spans: list[Round | Rate | Program] = [one.program or one for one in timed]
        waited = [(one.run_ns, one.wait_ns) for one in spans]
        return cls(
            wait_share(waited) if all(wait is not None for _, wait in waited) else None,
            _rate([one.steal for one in spans], [one.elapsed_ns / TICK_NS for one in spans]),
            _rate([one.switches for one in spans], [max(one.elapsed_ns, one.run_ns or 0) / 1e9 for one in spans]),
        )

    def reason(self, protocol: Protocol) -> str | None:
        """The reason why a time measured meanwhile cannot be reported as the model's own; None if it can."""
        shared = [
            f"{name} {shown.format(found)}"
            for name, shown, found, limit in (
                ("run-queue wait", "{:.0%}", self.wait, protocol.gate_wait),
                ("stolen by the hypervisor", "{:.0%}", self.steal, protocol.gate_steal),
                ("forced context switches", "{:,.0f} a second", self.switches, protocol.gate_switches),
            )
            if found is not None and found >= limit
        ]
        if shared:
            return f"the CPU was shared ({', '.join(shared).replace('%', ' %')})"
        silent = [
            name
            for name, found in (
                ("run-queue wait (/proc/PID/schedstat)", self.wait),
                ("stolen time (/proc/stat)", self.steal),
                ("forced context switches", self.switches),
            )
            if found is None
        ]
        return UNKNOWN.format(what=" and no ".join(silent)) if silent else None


def _rate(counts: Sequence[int | None], spans: Sequence[float]) -> float | None:
    """Counts per unit of the spans; None if a count is not known or the spans are empty."""
    known = [count for count in counts if count is not None]
    return sum(known) / sum(spans) if len(known) == len(counts) and sum(spans) > 0 else None
