"""The table of weights: how many are left, and their bytes as papers count them and as files hold them."""

from __future__ import annotations

from collections.abc import Iterator

from edgecr.report.numbers import PERCENT, count, size, with_unit
from edgecr.report.result import BASELINE, ModelRow, Result
from edgecr.report.table import Table

HEAD = (
    "role",
    "weights not zero",
    "gone",
    "work gone",
    "as papers count",
    "stored dense",
    "mask + values",
    "gaps + values",
    "mask + signs",
    "compact",
)
NOTE = (
    "Gone are weights and multiply-accumulates of the baseline, removed or zero. Papers count 4 bytes for a weight "
    "that is left, one bit for a binary one, and nothing for their places. Runtimes compute zeros and signs like any "
    "other weight: masks and binary weights make small files (target onnx-compact), not fast ones; removed channels "
    "make both. Bytes are those of weights alone: a file has its graph on top."
)


def weight_table(result: Result) -> Table:
    """Each role once: its weights are the same in every target's file."""
    return Table("Weights", HEAD, tuple(_rows(result)), NOTE)


def _rows(result: Result) -> Iterator[tuple[str, ...]]:
    models = {row.role: row for row in result.models}
    whole = models.get(BASELINE)
    for row in models.values():
        if row.weights is None:
            continue
        found = row.weights
        forms = (found.without_places, found.dense, found.mask, found.gaps, found.signs, found.compact)
        yield (row.role, count(found.nonzeros), *_gone(row, whole), *(size(each) for each in forms))


def _gone(row: ModelRow, whole: ModelRow | None) -> tuple[str, str]:
    """The shares of the baseline's weights and work that are gone, unknown without its counts."""
    assert row.weights is not None
    shares = (
        (row.weights.nonzeros, whole.parameters if whole else None),
        (row.weights.sparse_macs, whole.macs if whole else None),
    )
    weights, work = (with_unit(1 - left / of, PERCENT) if of else count(None) for left, of in shares)
    return weights, work
