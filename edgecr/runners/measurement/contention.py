"""Who else had the processor while something was timed, and whether a time measured then still is the model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecr.runners.device import Protocol
from edgecr.runners.measurement.record import Rate, Round
from edgecr.runners.measurement.statistics import wait_share

TICK_NS = 10_000_000
"""The kernel's unit of stolen time; the same on every architecture that boards have."""
UNKNOWN = "its kernel tells no {what}, as in some containers, so nothing shows that the processor was not shared"


@dataclass(frozen=True)
class Contention:
    """How much others took; None where the kernel does not tell."""

    wait: float | None
    """Share of the wanted processor time that was waiting in the run queue."""
    steal: float | None
    """Share of the elapsed time that the hypervisor gave to others, at most."""
    switches: float | None
    """Forced context switches in a second."""

    @classmethod
    def during(cls, spans: Sequence[Round] | Sequence[Rate]) -> Contention:
        """Over several spans of time together."""
        waited = [(one.run_ns, one.wait_ns) for one in spans]
        return cls(
            wait_share(waited) if all(wait is not None for _, wait in waited) else None,
            _rate([one.steal for one in spans], [one.elapsed_ns / TICK_NS for one in spans]),
            _rate([one.switches for one in spans], [max(one.elapsed_ns, one.run_ns or 0) / 1e9 for one in spans]),
        )

    def reason(self, protocol: Protocol) -> str | None:
        """Why a time measured meanwhile cannot be told as the model's own; None when it can."""
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
    """How many in one unit of the spans; None if one of the counts is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) / sum(spans) if len(known) == len(counts) and sum(spans) > 0 else None
