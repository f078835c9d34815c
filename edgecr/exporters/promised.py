"""The contents of an exported file beside what the surgery of its subject promises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from edgecr.exporters.integers import IntegerWork
from edgecr.exporters.receipt import Receipt, recounted
from edgecr.subject import Subject
from edgecr.surgery.changes.promise import Weights
from edgecr.surgery.counters import Count, count


def beside_promises(
    subject: Subject,
    file: Count,
    zero_channels: Mapping[str, int],
    weights: Iterable[Weights],
    integers: IntegerWork | None,
) -> Receipt:
    """The receipt of a file that was counted; the ``weights`` of its layers are only read if figures are promised."""
    # Code of the user's own is allowed here: the subject could not exist had it not been allowed before.
    untouched = replace(subject, surgery=()).skeleton(allow_code=True)
    promised, promise = subject.skeleton(allow_code=True), subject.promise(allow_code=True)
    return Receipt(
        count(untouched, subject.input_shape),
        count(promised, subject.input_shape),
        file,
        zero_channels,
        promise,
        recounted(promise, weights),
        integers,
    )
