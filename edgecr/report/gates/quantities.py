"""The quantities that gates can judge, by the gate's name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from edgecr.core.errors import RequestError
from edgecr.report.numbers import COUNT, LOSS, MEGABYTES, MILLIJOULES, MILLISECONDS, PERCENT, RATE, RATIO, Scale
from edgecr.robustness.conditions import CLEAN, MEAN, averages
from edgecr.robustness.suites import suites


class Kind(Enum):
    """The part of a result that holds a quantity's figures."""

    ACCURACY = "accuracy"
    AGREEMENT = "agreement"
    TIMING = "timing"
    COUNT = "count"
    BUDGET = "budget"


LIMITS_OF = {
    Kind.ACCURACY: ("drop", "min"),
    Kind.AGREEMENT: ("min",),
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

    @property
    def is_share(self) -> bool:
        """True for a share of images, of which 1 is the most."""
        return self.kind in (Kind.ACCURACY, Kind.AGREEMENT)

    def at_least(self, limit: str) -> bool:
        """True if that limit is a lower bound."""
        return limit == "min" or (limit == "ratio" and self.more_is_better)

    def scale_of(self, limit: str) -> Scale:
        """The scale in which values compared with that limit are written."""
        return {"drop": LOSS, "ratio": RATIO}.get(limit, self.scale)


def _share(kind: Kind, suite: str | None, condition: str) -> Quantity:
    return Quantity(kind, kind.value, PERCENT, LIMITS_OF[kind], suite, condition, more_is_better=True)


def _plain() -> dict[str, Quantity]:
    found = {
        f"latency_{name}": Quantity(Kind.TIMING, name, MILLISECONDS, LIMITS_OF[Kind.TIMING], uncertain=uncertain)
        for name, uncertain in (("p50", ()), ("p90", ("ratio",)), ("p99", ("ratio",)))
    }
    once = LIMITS_OF[Kind.TIMING]  # nothing is known of the spread of what was measured once
    found["memory"] = Quantity(Kind.TIMING, "memory", MEGABYTES, once, uncertain=once)
    found["energy"] = Quantity(Kind.TIMING, "energy", MILLIJOULES, LIMITS_OF[Kind.TIMING])
    best = ("ratio", "min")
    found["throughput"] = Quantity(Kind.TIMING, "throughput", RATE, best, more_is_better=True, uncertain=best)
    for name, scale in (("size", MEGABYTES), ("params", COUNT), ("macs", COUNT)):
        found[name] = Quantity(Kind.COUNT, name, scale, LIMITS_OF[Kind.COUNT])
    found["budget"] = Quantity(Kind.BUDGET, "budget", RATIO, LIMITS_OF[Kind.BUDGET])
    return found


def quantities(names: Iterable[str] | None = None) -> dict[str, Quantity]:
    """Every gate name and what it is about, for the named suites (all known ones when left out)."""
    found = {name: _share(kind, None, CLEAN) for kind, name in CLEAN_GATES.items()} | _plain()
    for suite in suites.names() if names is None else names:
        gates = {kind: suite_gates(suite, suites.get(suite).conditions, kind) for kind in CLEAN_GATES}
        for kind, name, row in ((kind, name, row) for kind, rows in gates.items() for name, row in rows.items()):
            if name in found:
                raise RequestError(f"The gate {name} has two meanings; rename the suite {suite!r} or its corruptions.")
            found[name] = _share(kind, suite, row)
    return found


CLEAN_GATES = {Kind.ACCURACY: "clean_accuracy", Kind.AGREEMENT: "agreement"}
"""The gates on the clean images, of each share of images that suites have gates on."""


def suite_gates(suite: str, conditions: Iterable[str], kind: Kind = Kind.ACCURACY) -> dict[str, str]:
    """The gates of a suite on one share of images, and the row of its table that each is judged on.

    ``SUITE_accuracy`` is the mean of all conditions, ``SUITE_CORRUPTION_accuracy`` the mean of the corruption's
    severities where there are several, ``SUITE_CORRUPTION-SEVERITY_accuracy`` one of them; the same for agreement.
    """
    rows, share = averages(conditions), kind.value
    found = {f"{suite}_{share}": MEAN} if MEAN in rows else {}
    for row in rows:
        corruption = row.partition("-")[0]
        if row not in (CLEAN, MEAN):
            found[f"{suite}_{row.removesuffix(f'-{MEAN}')}_{share}"] = row
            if f"{corruption}-{MEAN}" not in rows:
                found[f"{suite}_{corruption}_{share}"] = row
    return found


def check_labels(name: str) -> None:
    """Raises a RequestError for a gate that needs labels, about data that has none."""
    quantity = quantities()[name]
    if quantity.kind is Kind.ACCURACY:
        instead = name.removesuffix("accuracy") + "agreement" if quantity.suite else CLEAN_GATES[Kind.AGREEMENT]
        raise RequestError(f"the data has no labels: use {instead}")
