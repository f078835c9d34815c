import json
from dataclasses import replace

import pytest

from edgecr.core.errors import FileProblem
from edgecr.core.estimate import Estimate
from edgecr.report.build import export_row
from edgecr.report.result import Result, Verdict
from tests.report.miniatures import answered, latency, result


def test_json_round_trip(full, tmp_path):
    full.save(tmp_path / "report.json")
    assert Result.load(tmp_path / "report.json") == full


@pytest.mark.parametrize("change", [{"schema": 1}, {"schema": None}, {"models": 3}, {"verdict": "MAYBE"}])
def test_foreign_files_are_refused(full, tmp_path, change):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(full.plain() | change))
    with pytest.raises(FileProblem, match=r"report\.json"):
        Result.load(path)


def test_something_else_is_refused():
    with pytest.raises(FileProblem, match="another version"):
        Result.parse([1])


def test_slower_comes_first(full):
    first = "The exported candidate is slower than its baseline on cpu, batch 1: 1.20x"
    assert full.warnings[0].startswith(first)
    assert "jetson: no answer & no reason" in full.warnings
    assert "model.onnx: 3 zero channels" in full.warnings
    assert not result(latency=[latency(0.9)]).warnings


@pytest.mark.parametrize(
    "ratio",
    [
        Estimate(1.02, 0.97, 1.07, 0.95),
        Estimate(1.005, 1.004, 1.006, 0.95),
    ],
)
def test_what_is_not_surely_slower_by_a_percent_is_not_called_slower(ratio):
    warning = result(latency=[replace(latency(), ratios={"p50": ratio})]).warnings[0]
    assert "is not shown to be faster than its baseline" in warning
    assert "no difference is claimed" in warning
    assert "slower" not in warning


def test_rows_of_a_suite():
    rows = result(robustness=[answered({"fog": 20})]).accuracy
    assert [row.condition for row in rows] == ["clean", "gauss", "iso", "rgb_shift", "pixel_dropout", "fog", "mean"]
    assert rows[5].delta.value == pytest.approx(-0.1)
    assert rows[6].delta.value == pytest.approx(-0.02)
    assert rows[6].delta.low < -0.02 < rows[6].delta.high


def test_nothing_at_all_is_incomplete():
    assert result().verdict is Verdict.INCOMPLETE


def test_export_row_of_an_artifact(tmp_path):
    from edgecr.exporters.base import Artifact

    artifact = Artifact(
        tmp_path / "model.onnx",
        "onnx",
        "onnx",
        "fp32",
        "ab",
        12,
        {},
        {},
        {},
        [],
        {"images": 1},
        {},
        {"role": "baseline"},
    )
    row = export_row(artifact)
    assert (row.role, row.file, row.size_bytes, row.parity) == ("baseline", "model.onnx", 12, {"images": 1})
