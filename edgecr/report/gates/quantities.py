"""The quantities that gates can judge, by the gate's name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from edgecr.core.errors import RequestError
from edgecr.report.numbers import COUNT, LOSS, MEGABYTES, MILLISECONDS, PERCENT, RATE, RATIO, Scale
from edgecr.robustness.conditions import CLEAN, MEAN, averages
from edgecr.robustness.suites import suites


class Kind(Enum):
    """The part of a result that holds a quantity's figures."""

    ACCURACY = "accuracy"
    TIMING = "timing"
    COUNT = "count"
    BUDGET = "budget"


LIMITS_OF = {
    Kind.ACCURACY: ("drop", "min"),
    Kind.TIMING: ("ratio", "max"),
    Kind.COUNT: ("ratio", "max"),
    Kind.BUDGET: ("ratio",),
}


@dataclass(frozen=True)
class Quantity:
    """One judgeable quantity: its kind, the limits that make sense, how it is written."""

    kind: Kind
    field: str
    """The name of the figure within its row."""
    scale: Scale
    limits: tuple[str, ...]
    suite: str | None = None
    condition: str = ""
    more_is_better: bool = False
    uncertain: tuple[str, ...] = ()
    """Limits whose figures have no interval, so that no confidence can be asked for."""

    def at_least(self, limit: str) -> bool:
        """True if that limit is a lower bound."""
        return limit == "min" or (limit == "ratio" and self.more_is_better)

    def scale_of(self, limit: str) -> Scale:
        """The scale in which values compared with that limit are written."""
        return {"drop": LOSS, "ratio": RATIO}.get(limit, self.scale)


def _accuracy(suite: str | None, condition: str) -> Quantity:
    limits = LIMITS_OF[Kind.ACCURACY]
    return Quantity(Kind.ACCURACY, "accuracy", PERCENT, limits, suite, condition, more_is_better=True)


def _plain() -> dict[str, Quantity]:
    found = {
        f"latency_{name}": Quantity(Kind.TIMING, name, MILLISECONDS, LIMITS_OF[Kind.TIMING], uncertain=uncertain)
        for name, uncertain in (("p50", ()), ("p90", ("ratio",)), ("p99", ("ratio",)))
    }
    once = LIMITS_OF[Kind.TIMING]  # nothing is known of the spread of what was measured once
    found["memory"] = Quantity(Kind.TIMING, "memory", MEGABYTES, once, uncertain=once)
    best = ("ratio", "min")
    found["throughput"] = Quantity(Kind.TIMING, "throughput", RATE, best, more_is_better=True, uncertain=best)
    for name, scale in (("size", MEGABYTES), ("params", COUNT), ("macs", COUNT)):
        found[name] = Quantity(Kind.COUNT, name, scale, LIMITS_OF[Kind.COUNT])
    found["budget"] = Quantity(Kind.BUDGET, "budget", RATIO, LIMITS_OF[Kind.BUDGET])
    return found


def quantities(names: Iterable[str] | None = None) -> dict[str, Quantity]:
    """Every gate name and what it is about, for the named suites (all known ones when left out)."""
    found = {"clean_accuracy": _accuracy(None, CLEAN)} | _plain()
    for suite in suites.names() if names is None else names:
        for name, row in accuracy_gates(suite, suites.get(suite).conditions).items():
            if name in found:
                raise RequestError(f"The gate {name} has two meanings; rename the suite {suite!r} or its corruptions.")
            found[name] = _accuracy(suite, row)
    return found


def accuracy_gates(suite: str, conditions: Iterable[str]) -> dict[str, str]:
    """The gates of a suite, and the row of its accuracy table that each is judged on.

    ``SUITE_accuracy`` is the mean of all conditions, ``SUITE_CORRUPTION_accuracy`` the mean of the corruption's
    severities where there are several, ``SUITE_CORRUPTION-SEVERITY_accuracy`` one of them.
    """
    rows = averages(conditions)
    found = {f"{suite}_accuracy": MEAN} if MEAN in rows else {}
    for row in rows:
        corruption = row.partition("-")[0]
        if row not in (CLEAN, MEAN):
            found[f"{suite}_{row.removesuffix(f'-{MEAN}')}_accuracy"] = row
            if f"{corruption}-{MEAN}" not in rows:
                found[f"{suite}_{corruption}_accuracy"] = row
    return found
