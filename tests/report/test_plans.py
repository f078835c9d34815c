"""The plan of a pruning in a report, and two of them side by side."""

from edgecr.report.compare import comparison_tables
from edgecr.report.result import Result, StepRow
from edgecr.report.tables import tables


def pruned(name, **widths):
    return Result(name=name, id=f"{name}-1", steps=[StepRow("train"), StepRow("prune", widths=widths)])


def found(result_tables):
    return next(table for table in result_tables if table.title == "Pruning plan")


def test_a_report_shows_the_channels_of_each_group():
    table = found(tables(pruned("a", conv1=(16, 8), conv2=(32, 32))))
    assert table.rows == (("conv1", "16 → 8"), ("conv2", "32"))


def test_two_plans_stand_side_by_side():
    one, other = pruned("a", conv1=(16, 8)), pruned("b", conv1=(16, 12), conv2=(32, 16))
    table = found(comparison_tables([one, other]))
    assert [row[0] for row in table.rows] == ["conv1", "conv2"]
    assert table.rows[0][1:] == ("16 → 8", "16 → 12")
    assert Result.parse(one.plain()) == one


def test_without_a_pruning_there_is_no_such_table():
    assert all(table.title != "Pruning plan" for table in tables(Result(name="a", id="a-1")))
