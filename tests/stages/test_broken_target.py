"""A target that breaks at export is its own result: the others are exported, measured and judged all the same."""

import json

import pytest

from edgecr.core.errors import NotConfigured, StorageError, UnsupportedModel
from edgecr.exporters.onnx import OnnxExporter
from edgecr.exporters.onnx.declaration import OnnxTarget
from edgecr.pipeline import _refuse_early
from edgecr.recipe import load_recipe

BROKEN = "name: broken\npurpose: breaks at export\nformat: onnx\n"
WORDS = "RuntimeError: deep inside"


@pytest.fixture
def world(edgecr_here, small_run):
    """The folder of a finished run, whose pruning is taken over, with a recipe for a sound target and one to break."""
    edgecr_here.folder = folder = small_run.parent.parent
    (folder / "broken.yaml").write_text(BROKEN)
    text = (folder / "small.yaml").read_text()
    for old, new in (("images: 12", "images: 3"), ("[1, 2]", "[1]"), ("[onnx]", "[broken.yaml, onnx]")):
        text = text.replace(old, new)
    (folder / "broken_one.yaml").write_text(text.replace("name: small", "name: broken-one"))
    return folder


@pytest.fixture
def broken(monkeypatch):
    """Has the exporter raise an error for the candidate of the target ``broken``, or for all that is exported."""
    whole = OnnxExporter.write

    def breaking(error, everything=False):
        def write(self, subject, declared, proof, folder):
            if everything or (declared.name, folder.parent.name) == ("broken", "candidate"):
                raise error
            return whole(self, subject, declared, proof, folder)

        monkeypatch.setattr(OnnxExporter, "write", write)

    return breaking


@pytest.mark.slow
def test_the_others_are_judged_and_a_rerun_tries_it_again(edgecr_here, world, broken, monkeypatch):
    broken(RuntimeError("deep inside"))
    done = edgecr_here("compress", "broken_one.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"broken: the candidate could not be exported: {WORDS}" in " ".join(done.stderr.split())
    (run,) = world.glob("runs/broken-one-*")
    assert not list(run.glob("*/*@broken*"))
    checked = edgecr_here("check", run)
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "SHIP")
    report = json.loads((run / "report.json").read_text())
    assert {row["target"]: row["verdict"] for row in report["candidates"]} == {"onnx": "SHIP", "broken": "INCOMPLETE"}
    gates = [gate for gate in report["gates"] if gate["target"] == "broken"]
    assert {gate["name"] for gate in gates if WORDS in gate["text"]} >= {"size", "latency_p50", "clean_accuracy"}
    assert list(report["unverified"]) == ["stages/export-broken-candidate.json"]
    assert f"broken: the candidate could not be exported: {WORDS}" in report["warnings"]
    monkeypatch.undo()
    again = edgecr_here("compress", "broken_one.yaml")
    assert again.stderr.count("Exporting") == 1
    report = json.loads((run / "report.json").read_text())
    assert {row["target"]: row["verdict"] for row in report["candidates"]} == {"onnx": "SHIP", "broken": "SHIP"}


def test_where_no_target_can_be_exported_the_run_ends_with_the_error(edgecr_here, world, broken):
    broken(UnsupportedModel("No operator for that."), everything=True)
    done = edgecr_here("compress", "broken_one.yaml", "--set", "name=none-left")
    assert done.returncode == 1
    assert "No operator for that." in done.stderr
    assert "could not be exported" not in done.stderr
    (run,) = world.glob("runs/none-left-*")
    assert not (run / "report.json").exists()
    checked = edgecr_here("check", run)
    assert checked.returncode == 1
    assert checked.stdout.splitlines()[-1] == "INCOMPLETE"
    assert "No operator for that." in checked.stdout


def test_a_full_disk_is_no_targets_own_failure(edgecr_here, world, broken):
    broken(StorageError("No space left."), everything=True)
    done = edgecr_here("compress", "broken_one.yaml", "--set", "name=full-disk")
    assert done.returncode == 1
    assert "No space left." in done.stderr
    (run,) = world.glob("runs/full-disk-*")
    assert not (run / "stages/export-broken-baseline.json").exists()


def test_a_second_target_that_no_runtime_of_the_device_runs_is_refused_early(world, monkeypatch):
    monkeypatch.chdir(world)
    recipe = load_recipe("broken_one.yaml")
    _refuse_early(recipe)
    runtimes = property(lambda self: ("elsewhere",) if self.name == "onnx" else ("ort",))
    monkeypatch.setattr(OnnxTarget, "runtimes", runtimes)
    with pytest.raises(NotConfigured, match="declares no runtime 'elsewhere'"):
        _refuse_early(recipe)
