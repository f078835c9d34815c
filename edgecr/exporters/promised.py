"""The contents of an exported file beside what the surgery of its subject promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from edgecr.exporters.integers import IntegerWork
from edgecr.exporters.receipt import Receipt, Recount
from edgecr.subject import Subject
from edgecr.surgery.counters import count


def beside_promises(
    subject: Subject, contents: Callable[[Sequence[str]], Recount], integers: IntegerWork | None
) -> Receipt:
    """The receipt of a file; ``contents`` counts it, with the promised figures of these names."""
    # Code of the user's own is allowed here: the subject could not exist had it not been allowed before.
    untouched = replace(subject, surgery=()).skeleton(allow_code=True)
    promised, promise = subject.skeleton(allow_code=True), subject.promise(allow_code=True)
    found = contents(tuple(promise.figures))
    return Receipt(
        count(untouched, subject.input_shape),
        count(promised, subject.input_shape),
        found.file,
        found.zero_channels,
        promise,
        found.found,
        integers,
    )
