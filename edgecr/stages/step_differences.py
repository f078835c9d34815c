"""The differences, in words, that keep a finished step from being reused for another one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecr.core.errors import FileProblem
from edgecr.core.files import read_json

_WORDS = {
    "before": "model before it",
    "device": "device",
    "target": "export target",
    "files": "checkpoints",
    "source": "EdgeCR source",
    "cpu": "processor",
}
_IN_DETAIL = ("code", "packages")


def nearest(root: Path, inputs: Mapping[str, Any], maker: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """The run whose same step on the same data differs in the fewest things, and these; None without such a run."""
    found: list[tuple[str, list[str]]] = []
    for file in sorted(root.glob("*/record.json")):
        try:
            record = read_json(file)
            made, run = record["inputs"], str(record["run"])
            if all(made[key] == inputs[key] for key in ("step", "data")):
                found.append((run, _other(made, inputs) + _other(record["maker"], maker)))
        except (FileProblem, OSError, KeyError, TypeError, AttributeError):
            continue  # a damaged record tells nothing
    return min((each for each in found if each[1]), key=lambda each: len(each[1]), default=None)


def _other(made: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The names of what differs."""
    apart = [name for name in now if _alone(name, made.get(name)) != _alone(name, now[name])]
    return [_named(name, made.get(name), now[name]) for name in apart]


def _alone(name: str, value: Any) -> Any:
    """A value without the code of the first model, which is listed by itself."""
    return {k: v for k, v in value.items() if k != "code"} if name == "before" and isinstance(value, Mapping) else value


def _named(name: str, made: Any, now: Any) -> str:
    word = _WORDS.get(name, name)
    if name not in _IN_DETAIL:
        return word
    one, other = _leaves(made), _leaves(now)
    parts = sorted({key for key in one.keys() | other.keys() if one.get(key) != other.get(key)})
    return f"{word} ({', '.join(parts)})" if parts else word


def _leaves(value: Any) -> dict[str, Any]:
    """The innermost entries of nested mappings, by their own keys."""
    leaves: dict[str, Any] = {}
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        leaves |= _leaves(inner) if isinstance(inner, Mapping) else {key: inner}
    return leaves
