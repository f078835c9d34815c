"""The baseline of every target is a file of floats: what rounding and packing cost shows against it."""

import json
import shutil

import pytest

from edgecr.core import builtin
from edgecr.exporters import load_target
from edgecr.report.result import BASELINE, CANDIDATE
from edgecr.stages.asked import export_key, target_for


@pytest.mark.parametrize("name", builtin.names("export"))
def test_a_baseline_is_exported_in_float32_and_the_candidate_as_declared(name):
    declared = load_target(name)
    baseline = target_for(declared, BASELINE).model_dump(mode="json")
    assert target_for(declared, CANDIDATE) == declared
    told = (baseline["precision"], baseline.get("quantise"), baseline.get("storage"), baseline.get("sparsity"))
    assert told == ("fp32", None, baseline.get("storage") and "plain", baseline.get("sparsity") and False)
    changed = {key for key, value in declared.model_dump(mode="json").items() if baseline[key] != value}
    assert changed <= {"precision", "quantise", "storage", "sparsity"}
    keys = {export_key(target_for(declared, role), "data", ["model"]) for role in (BASELINE, CANDIDATE)}
    assert len(keys) == 1 + bool(changed)


@pytest.mark.slow
def test_files_of_a_run_for_each_runtime(edgecr_here, small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "runs" / small_run.name)  # others look at every file of that run
    edgecr_here.folder = tmp_path
    names = ("onnx-int8", "openvino-int8", "tensorrt-jetpack6-int8")
    done = edgecr_here("export", run, *(word for name in names for word in ("--target", name)))
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        told = {}
        for role in (BASELINE, CANDIDATE):
            folder = run / "export" / name / role
            told[role] = json.loads((folder / "model.manifest.json").read_text())
            checked = edgecr_here("verify", folder)
            assert checked.returncode == 0, checked.stdout + checked.stderr
        assert (told[BASELINE]["precision"], told[CANDIDATE]["precision"]) == ("fp32", "int8")
        assert told[BASELINE]["parity"]["max_abs"] < 1e-3 < told[CANDIDATE]["parity"]["max_abs"]
