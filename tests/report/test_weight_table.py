"""The table of weights: shares of the baseline's, and bytes by form."""

from dataclasses import replace

from edgecr.report.result import WeightRow
from edgecr.report.weight_table import weight_table
from tests.report.miniatures import models, result


def weights(nonzeros, macs):
    return WeightRow(nonzeros, macs, 4 * nonzeros, 2_000_000, 1_000_000, 900_000, 800_000, 700_000)


def with_weights(*, baseline=True):
    whole, slim = models()
    slim = replace(slim, weights=weights(27_247, 10_203_296))
    return result(models=[replace(whole, weights=weights(272_474, 40_813_184)), slim] if baseline else [slim])


def test_what_is_gone_is_a_share_of_the_baseline():
    rows = weight_table(with_weights()).rows
    assert [row[:5] for row in rows] == [
        ("baseline", "272,474", "0.0 %", "0.0 %", "1.09 MB"),
        ("candidate", "27,247", "90.0 %", "75.0 %", "0.109 MB"),
    ]
    assert rows[1][5:] == ("2.00 MB", "1.00 MB", "0.900 MB", "0.800 MB", "0.700 MB")


def test_without_a_baseline_no_share_is_known():
    (row,) = weight_table(with_weights(baseline=False)).rows
    assert row[2:4] == ("INCOMPLETE", "INCOMPLETE")


def test_models_whose_weights_nobody_counted_have_no_row():
    assert weight_table(result(models=models())).rows == ()
