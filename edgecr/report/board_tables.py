"""The table of the boards that answered: in which runtime, and how near to PyTorch."""

from __future__ import annotations

from edgecr.report.candidates import name_of
from edgecr.report.parity_words import parity_words
from edgecr.report.result import Result
from edgecr.report.table import Table


def board_table(result: Result) -> Table:
    """Each file on each board that answered about images itself; a table without rows where none did."""
    rows = tuple(
        (
            name_of(result.label(row.target), row.device),
            row.role,
            " ".join(filter(None, (row.runtime, row.version))),
            parity_words(row.parity, cosine=True),
        )
        for row in result.answerers
    )
    note = "Accuracy on these devices is that of the board's own answers; parity compares them with PyTorch's first."
    return Table("Boards that answered", ("where", "role", "runtime", "parity"), rows, note)
