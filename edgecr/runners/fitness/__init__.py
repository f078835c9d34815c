"""The state of a machine around a measurement: its facts, what is expected of them, and warnings with remedies."""

from edgecr.runners.fitness.expectations import accept_unexpected, refuse_unexpected
from edgecr.runners.fitness.facts import Facts, ask
from edgecr.runners.fitness.state import after, before, busy_names, most_threads, no_energy, stop_them, unused_gpu

__all__ = [
    "Facts",
    "accept_unexpected",
    "after",
    "ask",
    "before",
    "busy_names",
    "most_threads",
    "no_energy",
    "refuse_unexpected",
    "stop_them",
    "unused_gpu",
]
