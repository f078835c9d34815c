"""The words of robustness: corruptions with severities, conditions, suites. Declarations only, without torch."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from edgecr.core.errors import WorkError
from edgecr.core.names import LONGEST, is_name
from edgecr.core.registry import Registry
from edgecr.robustness.code_hash import code_hash

if TYPE_CHECKING:
    import numpy as np

    Spoiler = Callable[[np.ndarray, int], np.ndarray]
    """Takes an image (uint8, HWC, RGB) and a seed, and gives an image of the same shape."""

CLEAN = "clean"
"""The condition that every suite is compared with: the images as they are."""
MEAN = "mean"
"""The average over all conditions of a suite but the clean images."""

_CORRUPTION = re.compile(r"[a-z][a-z0-9_]*\Z")  # no hyphen: it stands before a severity


@dataclass(frozen=True)
class Condition:
    """A corruption at one of its severities, or at its only strength: all that the images of a suite undergo."""

    corruption: str
    severity: int | None = None

    @property
    def name(self) -> str:
        """The one name of the condition, fit for files and for gates: ``fog``, ``fog-3``."""
        return self.corruption if self.severity is None else f"{self.corruption}-{self.severity}"

    @classmethod
    def parse(cls, name: str) -> Condition:
        """The condition of that name."""
        corruption, hyphen, severity = name.partition("-")
        return cls(corruption, int(severity)) if hyphen and severity.isdecimal() else cls(name)


@dataclass(frozen=True, kw_only=True)
class Corruption(ABC):
    """A way to spoil an image, with its exact arguments: one set of them, or one for each severity."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments at every severity."""
    levels: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Further arguments by severity; empty for a corruption of a single strength."""

    def __post_init__(self) -> None:
        if not _CORRUPTION.match(self.name) or len(self.name) > LONGEST or self.name in (CLEAN, MEAN):
            raise ValueError(f"{self.name!r} cannot name a corruption: use lower-case letters, digits and '_'")
        if any(type(severity) is not int or severity < 1 for severity in self.levels):
            raise ValueError(f"corruption {self.name!r}: severities are whole numbers from 1 on")

    @abstractmethod
    def prepared(self, severity: int | None = None) -> Spoiler:
        """The function that spoils an image at a severity; arguments that it does not take are a RequestError."""

    @property
    @abstractmethod
    def called(self) -> str:
        """The transform or function that does the work."""

    @property
    def code(self) -> str:
        """A hash of the code behind the corruption, where no package's version stands for it."""
        return ""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The corruption at each of its severities, from the mildest on."""
        return tuple(Condition(self.name, severity) for severity in sorted(self.levels)) or (Condition(self.name),)

    def at(self: C, *severities: int) -> C:
        """The same corruption at some of its severities only."""
        missing = [severity for severity in severities if severity not in self.levels]
        if missing or not severities:
            raise ValueError(f"corruption {self.name!r} has the severities {sorted(self.levels)}, not {missing}")
        return replace(self, levels={severity: self.levels[severity] for severity in severities})

    def arguments_at(self, severity: int | None) -> dict[str, Any]:
        """The exact arguments at a severity."""
        return {**self.arguments, **(self.levels[severity] if severity is not None else {})}

    def text(self, severity: int | None = None) -> str:
        """The condition's name, the transform and its exact arguments."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments_at(severity).items())
        return f"{Condition(self.name, severity).name}: {self.called}({arguments})"


C = TypeVar("C", bound=Corruption)


@dataclass(frozen=True, kw_only=True)
class Albumentation(Corruption):
    """A transform of the library albumentations."""

    transform: str

    @property
    def called(self) -> str:
        """The transform's name in the library."""
        return self.transform

    def prepared(self, severity: int | None = None) -> Spoiler:
        """The transform, always applied."""
        from edgecr.robustness.library import transforming  # loads albumentations

        name = Condition(self.name, severity).name
        return transforming(name, self.transform, self.arguments_at(severity))


@dataclass(frozen=True, kw_only=True)
class Computed(Corruption):
    """A Python function ``(image, random, **arguments) -> image``; its only randomness is numpy's ``random``."""

    function: Callable[..., Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        for condition in self.conditions:
            try:
                inspect.signature(self.function).bind(None, None, **self.arguments_at(condition.severity))
            except TypeError as error:
                why = f"corruption {condition.name!r}: {self.called} cannot be called so: {error}"
                raise ValueError(why) from error

    @property
    def called(self) -> str:
        """The function's name."""
        return self.function.__name__

    @property
    def code(self) -> str:
        """A hash of the function, its defaults and what it closes over: answers to other images are not taken over."""
        return code_hash(self.function)

    def prepared(self, severity: int | None = None) -> Spoiler:
        """The function with its arguments and its randomness."""
        import numpy as np

        arguments = self.arguments_at(severity)

        def spoil(image: np.ndarray, seed: int) -> np.ndarray:
            try:
                spoiled: np.ndarray = self.function(image, np.random.default_rng(seed), **arguments)
            except Exception as error:
                raise WorkError(f"Corruption {self.name!r} failed: {type(error).__name__}: {error}") from error
            return spoiled

        return spoil


@dataclass(frozen=True)
class Suite:
    """A named set of corruptions; every image undergoes each of them once at each of its severities."""

    name: str
    purpose: str
    corruptions: tuple[Corruption, ...] = ()

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ValueError(f"{self.name!r} cannot name a suite")
        names = [corruption.name for corruption in self.corruptions]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"suite {self.name!r} names {twice[0]!r} twice; list its severities in one place")

    @property
    def conditions(self) -> tuple[str, ...]:
        """The names of the conditions: the clean images first, then each corruption at its severities."""
        return (CLEAN, *(each.name for corruption in self.corruptions for each in corruption.conditions))

    @property
    def severities(self) -> tuple[int, ...]:
        """All severities that its corruptions are looked at."""
        return tuple(sorted({severity for corruption in self.corruptions for severity in corruption.levels}))

    def corruption(self, condition: Condition) -> Corruption:
        """The corruption behind a condition."""
        return next(each for each in self.corruptions if condition in each.conditions)

    def lines(self) -> list[str]:
        """One line for each condition, with its exact arguments."""
        return [each.text(condition.severity) for each in self.corruptions for condition in each.conditions]

    def identity(self) -> list[str]:
        """The lines and the code behind them: everything that says what becomes of an image."""
        codes = [each.code for each in self.corruptions for _ in each.conditions]
        return [f"{line} [{code}]" if code else line for line, code in zip(self.lines(), codes)]


corruptions: Registry[Corruption] = Registry("corruption")
suites: Registry[Suite] = Registry("suite")


def corruption(
    name: str, levels: Mapping[int, Mapping[str, Any]] | None = None, **arguments: Any
) -> Callable[[Callable[..., Any]], Computed]:
    """Decorator that registers a function as a corruption; ``levels`` are its arguments by severity."""

    def add(function: Callable[..., Any]) -> Computed:
        made = Computed(name=name, arguments=arguments, levels=levels or {}, function=function)
        corruptions.register(name)(made)
        return made

    return add


def declare_suite(name: str, purpose: str, *members: Corruption) -> Suite:
    """Registers a suite of these corruptions."""
    return suites.register(name)(Suite(name, purpose, members))


def averages(conditions: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The figures of a suite in order, and the conditions that each is an average over.

    After each condition with severities comes the mean over them (``fog-mean``), at the end the mean over all.
    """
    names = tuple(conditions)
    found: dict[str, tuple[str, ...]] = {CLEAN: (CLEAN,)} if CLEAN in names else {}
    by_corruption: dict[str, list[str]] = {}
    for name in names:
        if name != CLEAN:
            by_corruption.setdefault(Condition.parse(name).corruption, []).append(name)
    for corruption, members in by_corruption.items():
        found |= {name: (name,) for name in members}
        if len(members) > 1:
            found[f"{corruption}-{MEAN}"] = tuple(members)
    if by_corruption:
        found[MEAN] = tuple(name for members in by_corruption.values() for name in members)
    return found


def in_words(figure: str) -> str:
    """The name of a condition, or of a mean over severities, in words."""
    if figure == MEAN:
        return "mean of the corruptions"
    corruption, hyphen, severity = figure.partition("-")
    if hyphen:
        severity = "mean of the severities" if severity == MEAN else f"severity {severity}"
    return ", ".join(filter(None, (corruption.replace("_", " "), severity)))
