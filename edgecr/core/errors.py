"""The one exception tree of EdgeCR.

* EdgecrError: anything EdgeCR can explain; the command line prints it and exits with ``exit_code``
    * RequestError (exit 2): what was asked for is wrong
        * RecipeError: a recipe has mistakes; carries all of them, each with its place
        * UnknownName: a name that no registry or folder knows; lists near names
        * FileProblem: a file is missing, unreadable, truncated, of the wrong kind or unsafe
        * BudgetError: a budget or sparsity that cannot be met; says the best that can
        * NotConfigured: a device needs settings that nobody has written yet
        * NotTrusted: a device file of somebody else, which the user has not allowed yet
    * WorkError (exit 1): the request was right, the work failed
        * RunBusy: another process is writing the same run or the same artifact
        * TrainingDiverged: the loss became NaN or infinite
        * UnsupportedModel: an operation stops a model from being cut, exported or counted
        * ExportRefused: an exported file failed parity or its removal receipt
        * DeviceFailed: a board did not answer, or answered with an error
            * ConnectionLost: the connection to it ended before the work did; the work itself may be in order
        * StorageError: the disk is full or a folder may not be written
    * SomeRaised: some of several jobs raised; carries what the others returned
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class EdgecrError(Exception):
    """Anything EdgeCR can explain; the message says what, where and what to do."""

    exit_code = 1


class RequestError(EdgecrError):
    """The request is wrong (recipe, option or file)."""

    exit_code = 2


class WorkError(EdgecrError):
    """The request was right, but the work failed."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a recipe: where it stands, what is wrong and what was expected."""

    where: str
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        key = f"{self.path}: " if self.path else ""
        return f"{place}{key}{self.message}"


class RecipeError(RequestError):
    """A recipe has mistakes; all of them are listed at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "1 mistake" if count == 1 else f"{count} mistakes"
        super().__init__(f"The recipe has {head}:\n" + "\n".join(f"  {p}" for p in self.problems))


class UnknownName(RequestError):
    """A name that no registry or folder knows."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        super().__init__(f"Unknown {kind} {name!r}. {suggestion(name, self.known)}")


class FileProblem(RequestError):
    """A file is missing, unreadable, truncated, of the wrong kind or unsafe."""


class BudgetError(RequestError):
    """A budget or sparsity that cannot be met."""


class NotConfigured(RequestError):
    """A device needs settings that nobody has written yet."""


class NotTrusted(RequestError):
    """A device file of somebody else, which the user has not allowed yet."""


class RunBusy(WorkError):
    """Another process is writing the same run, or the same artifact."""


class TrainingDiverged(WorkError):
    """The loss became NaN or infinite."""


class UnsupportedModel(WorkError):
    """An operation stops a model from being cut, exported or counted."""


class ExportRefused(WorkError):
    """An exported file failed parity or its removal receipt, so it was not written as good."""


class DeviceFailed(WorkError):
    """A board did not answer, or answered with an error."""


class ConnectionLost(DeviceFailed):
    """The connection to a board ended before the work did."""


class DeviceUnreachable(ConnectionLost):
    """A board did not answer at all: it is off, or it hangs."""


class StorageError(WorkError):
    """The disk is full or a folder may not be written."""

    reason = ""
    """The reason alone, in a few words."""


class SomeRaised(EdgecrError):
    """Jobs of which some raised an exception; ``found`` has what the others returned."""

    def __init__(self, found: Mapping[str, Any], raised: Mapping[str, Exception]) -> None:
        self.found, self.raised = found, raised
        super().__init__("\n".join(f"{name}: {in_words(error)}" for name, error in raised.items()))
        self.exit_code = max(error.exit_code if isinstance(error, EdgecrError) else 1 for error in raised.values())


def in_words(error: Exception) -> str:
    """An exception as a line; the kind belongs to those that EdgeCR does not raise itself."""
    return str(error) if isinstance(error, EdgecrError) else f"{type(error).__name__}: {error}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """A 'did you mean' sentence, or the list of known names when nothing is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(repr(n) for n in near) + "?"
    return "Known: " + ", ".join(names) + "." if names else "None are known here."
