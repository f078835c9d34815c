"""Parsing of a board's output: events and noise, treated as untrusted and shown with control characters escaped."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import ValidationError

from edgecr.core.errors import DeviceFailed
from edgecr.core.options import Options
from edgecr.core.printable import printable

MARK = b"\x1e"
MOST_WORDS = 2000
"""Characters of a board's text that are worth showing."""
UNREADABLE = "unreadable"
"""The name that a marked line gets when it holds no event."""
ENDLESS = "endless"
"""The name of the event that stands for all that a board would send on and on."""
Event = dict[str, Any]
Kind = TypeVar("Kind", bound=Options)


class Hello(Options):
    """The first event: who answers."""

    protocol: int
    pid: int
    work: str
    python: str


def parse_line(line: bytes) -> tuple[str, Event | None]:
    """Returns the text of a line that is not part of the protocol, and the event behind the mark if there is one."""
    noise, mark, text = line.partition(MARK)
    if not mark:
        return shown(line).strip(), None
    try:
        event = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        event = {"event": UNREADABLE, "text": shown(text)}
    return shown(noise).strip(), event


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def shown(words: bytes | str, most: int = MOST_WORDS) -> str:
    """Foreign text as one that may be printed: cut off, control characters escaped, line ends kept."""
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    cut = text if len(text) <= most else text[:most] + "…"
    return printable(cut)


def cleaned(value: Any) -> Any:
    """A plain value with every text in it as it may be shown; DeviceFailed for one that is nested too deeply."""
    try:
        return _cleaned(value)
    except RecursionError as error:
        name = value.get("event", "") if isinstance(value, dict) else ""
        raise unreadable(str(name), "it is nested too deeply") from error


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {shown(key): _cleaned(one) for key, one in value.items()}
    return [_cleaned(one) for one in value] if isinstance(value, list) else value


def message_of(event: Event) -> str:
    """The reason for a failure, as the board gives it."""
    found = event.get("message")
    return shown(found) if isinstance(found, str) and found else "The agent failed and did not say why."


def unreadable(name: str, problem: str) -> DeviceFailed:
    """The failure that an event is which is not as the protocol wants it."""
    return DeviceFailed(f"The agent sent a {shown(name, 80)!r} event that cannot be read: {shown(problem, 400)}.")


def read_as(kind: type[Kind], event: Event) -> Kind:
    """An event as its data, checked."""
    try:
        return kind.parse({key: value for key, value in event.items() if key != "event"})
    except (ValidationError, ValueError, RecursionError) as error:
        raise unreadable(event["event"], _first_problem(error)) from error


def _first_problem(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
