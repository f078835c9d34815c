"""Amounts of budgets with their units."""

import pytest

from edgecr.surgery.planning.amounts import in_words
from edgecr.surgery.planning.record import Amount


@pytest.mark.parametrize(
    ("figure", "amount", "words"),
    [
        ("params", 1_234_567, "1,234,567"),
        ("macs", 40_551_040, "40,551,040"),
        ("channels", 30, "30"),
        ("size", 5_250_000, "5.25 MB"),
        ("latency", 3_141_592, "3.142 ms"),
        ("measured latency", 2_500_000, "2.5 ms"),
    ],
)
def test_each_figure_has_its_unit(figure, amount, words):
    assert in_words(figure, amount) == words
    assert words in str(Amount(figure=figure, before=2 * amount, after=amount, budget=amount))
