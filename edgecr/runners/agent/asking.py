"""One session in which a board answers batches: the next ones are on their way while it computes."""

from __future__ import annotations

import base64
import binascii
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from edgecr.core.options import Options
from edgecr.runners.agent.events import Event, cleaned, message_of, read_as, unreadable
from edgecr.runners.agent.payload import Payload
from edgecr.runners.agent.protocol import Connection, raise_failure
from edgecr.tasks import Outputs

AHEAD = 3
"""Batches that are on their way or being answered at once."""
DAMAGED = "checksum"
"""The word in the agent's message for a file that did not arrive as it was sent."""
Inputs = Callable[[int], np.ndarray]
Ready = Callable[[Connection, dict[str, Any]], dict[str, Any]]


class LoadedModel(Options):
    """The runtime that has loaded the file."""

    info: dict[str, Any]
    whole_batches: bool


class SentArray(Options):
    """One output as it travels."""

    dtype: Literal["float32", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"]
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    data: str

    def array(self) -> np.ndarray:
        """The numbers; ValueError for other ones than the shape says."""
        content, kind = base64.b64decode(self.data, validate=True), np.dtype(self.dtype).newbyteorder("<")
        if len(content) != math.prod(self.shape) * kind.itemsize:
            raise ValueError(f"{len(content)} bytes are no {self.dtype} of shape {list(self.shape)}")
        return np.frombuffer(content, kind).reshape(self.shape)


class SentAnswers(Options):
    """The outputs for one batch."""

    number: int
    ns: int
    outputs: dict[str, SentArray]


class Asking:
    """A model that stays loaded on the board and answers batches."""

    def __init__(self, agent: Connection) -> None:
        self._agent = agent
        self._sent = 0
        self.info: dict[str, Any] = {}
        self.whole_batches = True

    def load(self, payload: Payload, arm: dict[str, Any], ready: Ready) -> None:
        """Sends the files and starts the process that answers; returns once the model is loaded.

        ``ready`` makes of the files on the board that which answers.
        """
        payload.send(self._agent.put)
        self._agent.tell("eval", **ready(self._agent, arm))
        event = self._agent.event()
        raise_failure("eval", event)
        if event["event"] != "loaded":
            raise unreadable(event["event"], "the model was not loaded yet")
        loaded = read_as(LoadedModel, cleaned(event))
        self.info, self.whole_batches = loaded.info, loaded.whole_batches

    def answers(self, wanted: Sequence[int], inputs: Inputs) -> Iterator[tuple[int, int, Outputs]]:
        """Yields the number of each batch, how many inputs it had and its outputs, in the order of the answers."""
        waiting, flying, again = deque(wanted), dict[int, tuple[int, int]](), set[int]()
        while waiting or flying:
            while waiting and len(flying) < AHEAD:
                number = waiting.popleft()
                self._sent += 1
                flying[self._sent] = number, self._send(self._sent, inputs(number))
            event = self._agent.event()
            if (damaged := _damaged(event)) in flying and damaged not in again:
                again.add(damaged)
                self._send(damaged, inputs(flying[damaged][0]))
            elif event["event"] == "answers":
                ticket, outputs = _read(event)
                if ticket not in flying:
                    raise unreadable("answers", f"nobody asked for the answers {ticket}")
                yield (*flying.pop(ticket), outputs)
            elif not (event["event"] == "done" and event.get("op") == "put"):
                raise_failure("eval", event)
                raise unreadable(event["event"], "answers were expected")

    def close(self) -> None:
        """Ends the session; the agent removes what it holds."""
        self._agent.close()

    def _send(self, ticket: int, values: np.ndarray) -> int:
        """Sends a batch and asks for its answers in one go; returns how many inputs it has."""
        name = str(ticket)
        ordered = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
        self._agent.put_content(ordered.tobytes(), f"batches/{name}")
        self._agent.tell("answer", number=ticket, name=name, shape=list(values.shape), dtype=values.dtype.name)
        return len(values)


def _damaged(event: Event) -> int:
    """The batch that arrived damaged; 0, which none has, for every other event."""
    name = event.get("name")
    told = event["event"] == "error" and event.get("op") == "put" and DAMAGED in message_of(event)
    number = name.rpartition("/")[2] if told and isinstance(name, str) else ""
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0


def _read(event: Event) -> tuple[int, Outputs]:
    sent = read_as(SentAnswers, event)
    try:
        return sent.number, {name: each.array() for name, each in sent.outputs.items()}
    except (ValueError, binascii.Error) as error:
        raise unreadable("answers", str(error)) from error
