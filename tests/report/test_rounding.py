"""The tables of files with 8-bit integers."""

from edgecr.report.result import ExportRow, Result
from edgecr.report.tables import tables
from tests.report.miniatures import result

CONTROLLED = {
    "calibrator": "mse",
    "images": 256,
    "reduce_range": True,
    "floats_kept": ["b"],
    "drop": 0.002,
    "sensitivity": {"a": {"clean": 1e-6, "noise": 2e-6}, "b": {"clean": 3e-3, "noise": 4e-2}},
}


def row(role, rounding, precision="int8"):
    return ExportRow(
        role, f"onnx-{precision}", "model.onnx", "onnx", precision, 10, "0", {}, {"integers": {"share": 0.95}}, rounding
    )


def titled(found, title):
    return next((table for table in tables(found) if table.title == title), None)


def test_files_say_how_they_were_rounded_and_what_stays_in_floats():
    plain = {"calibrator": "minmax", "images": 64, "reduce_range": False}
    found = result(exports=[row("baseline", plain), row("candidate", CONTROLLED)])
    assert titled(found, "8-bit integers").rows == (
        ("baseline", "onnx-int8", "minmax", "64", "8", "95.0 %", "not asked", "not asked"),
        ("candidate", "onnx-int8", "mse", "256", "7", "95.0 %", "\u22120.20 points", "b"),
    )
    assert titled(found, "Sensitivity to 8 bits").rows == (
        ("onnx-int8", "b", "3.0e-03", "4.0e-02", "in floats"),
        ("onnx-int8", "a", "1.0e-06", "2.0e-06", "in integers"),
    )


def test_files_of_floats_have_no_such_tables_and_records_come_back(tmp_path):
    found = result(exports=[row("candidate", {}, "fp32"), row("candidate", {"float32": ["a"]}, "fp16")])
    assert titled(found, "8-bit integers") is None
    assert titled(found, "Sensitivity to 8 bits") is None
    kept = result(exports=[row("candidate", CONTROLLED)])
    assert Result.parse(kept.plain(), "here").exports[0].rounding == CONTROLLED
