"""Records of steps in a report, and those of two runs side by side."""

from edgecr.report.compare import comparison_tables
from edgecr.report.result import RecordRows, Result, StepRow
from edgecr.report.tables import tables


def pruned(name, **widths):
    plan = RecordRows("Pruning plan", ("channels", "before and after"), "", widths)
    return Result(name=name, id=f"{name}-1", steps=[StepRow("train"), StepRow("prune", records=[plan])])


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


def test_of_several_steps_the_first_before_and_the_last_after_count():
    plans = [RecordRows("Pruning plan", rows={"conv1": pair}) for pair in ((16, 12), (12, 8))]
    table = found(tables(Result(name="a", id="a-1", steps=[StepRow("prune", records=[plan]) for plan in plans])))
    assert table.rows == (("conv1", "16 → 8"),)


def test_plain_values_of_several_steps_stand_beside_one_another():
    steps = [StepRow("own", records=[RecordRows("Memory", rows={"size": (None, size)})]) for size in (4096, 0.5)]
    [table] = [one for one in tables(Result(name="a", id="a-1", steps=steps)) if one.title == "Memory"]
    assert table.head == ("", "value")
    assert table.rows == (("size, step 1", "4,096"), ("size, step 2", "0.5"))
    [table] = [one for one in tables(Result(name="a", id="a-1", steps=steps[:1])) if one.title == "Memory"]
    assert table.rows == (("size", "4,096"),)
