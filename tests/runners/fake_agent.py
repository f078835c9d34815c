"""An agent that answers what a test wants, to see what the host makes of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecr.runners.agent.protocol import Connection

HELLO = {"event": "hello", "protocol": 2, "pid": 1, "work": "/w", "python": "3.8.0"}
FACTS = {
    "usable_cores": 64, "load": 0.0, "busy": 0.0, "busiest": [], "swapped_pages": 0, "temperatures": {}, "l4t": None,
    "memory": {"total_kb": None, "available_kb": None}, "throttled": {"count": None, "flags": None},
    "cpufreq": {"governors": [], "allowed": [], "possible": [], "now": []}, "libraries": {},
}  # fmt: skip

AGENT = r"""
import json, sys, time
answers, log = json.load(open(sys.argv[1])), sys.argv[2]
stdin = sys.stdin.buffer
stdin.read(json.loads(stdin.readline())["size"])
def say(texts):
    for text in texts:
        sys.stdout.write("\x1e" + text + "\n")
    sys.stdout.flush()
say(answers["hello"])
while "deaf" in answers:
    time.sleep(1)
left = 0
for line in iter(stdin.readline, b""):
    request = json.loads(line)
    op = request["op"]
    with open(log, "a") as file:
        file.write(op + "\n")
    if op == "put":
        left = request["size"]
    if op == "block":
        left -= len(stdin.read(request["size"]))
        op = "put"
    if op in answers:
        say(answers[op])
        if any('"fault"' in text for text in answers[op]):
            break
    elif op == "lease" or op == "bye" or (op == "put" and not left):
        say([json.dumps({"event": "done", "op": op})])
    if op == "bye":
        break
"""


def text(value: Any) -> str:
    """An event as its line; text is taken as it is."""
    return value if isinstance(value, str) else json.dumps(value)


def fake(log: Path, answers: Mapping[str, Sequence[Any]], **settings: Any) -> Connection:
    """A connection to an agent that answers each request with the events of its name, and notes what it was asked."""
    said = {name: [text(one) for one in events] for name, events in ({"hello": [HELLO]} | dict(answers)).items()}
    script = log.with_suffix(".json")
    script.write_text(json.dumps(said))
    argv = [sys.executable, "-c", AGENT, str(script), str(log)]
    return Connection(argv, env={}, **({"lease_s": 30.0, "hello_s": 30.0} | settings))
