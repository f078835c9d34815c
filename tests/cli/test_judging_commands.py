"""Effects of `check`, `report`, `profile` and `robustness` on a finished run, and changes that they never make."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.files import sha256
from tests.workplace import trusted


def invoke(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, " ".join(done.output.split())


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def run(small_run, tmp_path):
    return shutil.copytree(small_run, tmp_path / small_run.name)


@pytest.fixture
def device(small_run):
    """The device that the run was measured on."""
    return small_run.parent.parent / "quick.yaml"


def gated(run):
    """Everything that gates read."""
    apart = ("extra", "events.jsonl", "report.", ".lock")
    return {
        path: content
        for path, content in contents(run).items()
        if not str(path).startswith(apart) and not str(path).startswith("stages/extra")
    }


@pytest.mark.parametrize(
    "options",
    [
        ["--launches", 1],
        ["--rounds", 1],
        ["--batch", 1],
        ["--batch", "1,2,3"],
        ["--batch", 1, "--launches", 1],
    ],
)
def test_profile_under_other_options_never_overwrites_what_gates_read(run, device, options):
    before = gated(run)
    code, output = invoke("profile", run, "--device", device, "-q", *options)
    assert code == 0
    assert "batch 1" in output
    assert gated(run) == before
    (extra,) = (run / "extra" / "measure").iterdir()
    assert json.loads(extra.read_text())["arms"]
    assert invoke("check", run)[0] == 0
    assert invoke("report", run)[0] == 0
    rows = json.loads((run / "report.json").read_text())["latency"]
    assert [row["batch"] for row in rows] == [1, 2]
    assert not any(row["partial"] for row in rows)


def test_profile_on_another_device_joins_no_target(run, tmp_path):
    other = tmp_path / "quick-onnx.yaml"
    other.write_text(
        "name: quick-fast\npurpose: test\nkind: cpu\ntransport: {kind: local}\n"
        "protocol: {launches: 1, rounds: 1, round_s: 0.01, warmup: {window_s: 0.01, max_s: 0.02}}\n"
    )
    trusted(other)
    before = gated(run)
    assert invoke("profile", run, "--device", other, "-q")[0] == 0
    assert gated(run) == before
    shutil.copy(next((run / "extra" / "measure").iterdir()), run / "measure" / "cpu-fast@onnx.json")
    shutil.copy(next((run / "extra" / "measure").iterdir()), run / "measure" / "quick-fast-onnx.json")
    assert invoke("report", run)[0] == 0
    rows = json.loads((run / "report.json").read_text())["latency"]
    assert {row["device"] for row in rows} == {"quick"}


@pytest.mark.parametrize("words", [[], ["--batch", "2,1"]])
def test_profile_under_the_recipes_own_options_makes_its_result(run, device, words):
    before = gated(run)
    assert invoke("profile", run, "--device", device, "-q", *words)[0] == 0
    assert gated(run) == before  # it was there
    (run / "measure" / "quick@onnx.json").unlink()
    assert invoke("check", run)[0] == 1
    code, output = invoke("profile", run, "--device", device, "-q", *words)
    assert code == 0
    assert "batch 2" in output
    assert not (run / "extra").exists()
    assert invoke("check", run)[0] == 0


def test_profile_of_a_swapped_file_is_kept_apart(run, device):
    shutil.copy(run / "export/onnx/baseline/model.onnx", run / "export/onnx/candidate/model.onnx")
    before = gated(run)
    _, output = invoke("profile", run, "--device", device)
    assert "is not what was exported" in output.replace("\n", " ")
    assert gated(run) == before
    (extra,) = (run / "extra" / "measure").iterdir()
    hashes = {arm["sha256"] for arm in json.loads(extra.read_text())["arms"]}
    assert hashes == {sha256(run / "export/onnx/candidate/model.onnx")}


def test_robustness_under_other_options_never_overwrites_what_gates_read(run):
    before = gated(run)
    assert invoke("robustness", run, "--images", 1, "-q")[0] == 0
    assert invoke("robustness", run, "--suite", "clean", "-q")[0] == 0
    assert gated(run) == before
    assert len(list((run / "extra" / "robustness").iterdir())) == 2
    assert invoke("report", run)[0] == 0
    rows = json.loads((run / "report.json").read_text())["accuracy"]
    assert {row["candidate"]["samples"] for row in rows} == {2}


def test_a_swapped_file_is_asked_again(run):
    shutil.copy(run / "export/onnx/baseline/model.onnx", run / "export/onnx/candidate/model.onnx")
    before = gated(run)
    assert invoke("robustness", run, "-q")[0] == 0
    assert gated(run) == before
    (extra,) = (run / "extra" / "robustness").iterdir()
    roles = json.loads((extra / "robustness.json").read_text())["roles"]
    assert roles["candidate"] == roles["baseline"] == sha256(run / "export/onnx/candidate/model.onnx")


def test_robustness_under_the_recipes_own_options_mends_its_answers(run):
    before = gated(run)
    (run / "robustness/noise5@onnx/fog.npz").write_bytes(b"")
    (run / "robustness/noise5@onnx/iso.npz").unlink()
    assert invoke("check", run)[0] == 1
    assert invoke("robustness", run, "-q")[0] == 0
    after = gated(run)
    assert after.keys() == before.keys()
    changed = [path for path in before if after[path] != before[path]]
    assert all(path.parts[0] == "stages" or path.suffix == ".npz" for path in changed), changed
    assert invoke("check", run)[0] == 0


def test_a_measurement_that_broke_off_is_recorded_and_made_again(run, device, monkeypatch):
    from edgecr.runners.agent.runner import AgentRunner

    measure = AgentRunner.measure
    monkeypatch.setattr(AgentRunner, "measure", lambda *words: measure(*words).model_copy(update={"error": "gone"}))
    (run / "measure" / "quick@onnx.json").unlink()
    with pytest.raises(Exception, match="gone"):
        invoke("profile", run, "--device", device, "-q")
    code, output = invoke("check", run)
    assert code == 1
    assert "INCOMPLETE latency_p50: on quick, batch 1 (worst of 2): the measurement is partial (gone)" in output
    monkeypatch.undo()
    assert invoke("profile", run, "--device", device, "-q")[0] == 0
    assert invoke("check", run)[0] == 0


def test_a_partial_measurement_is_made_again(run, device):
    place = run / "measure" / "quick@onnx.json"
    values = json.loads(place.read_text())
    del values["launches"][-1]
    place.write_text(json.dumps(values))
    record = run / "stages" / "measure-quick@onnx.json"
    stage = json.loads(record.read_text())
    stage["outputs"]["measure/quick@onnx.json"] = sha256(place)
    record.write_text(json.dumps(stage))
    assert "1 of 2 launches" in invoke("check", run)[1]
    assert invoke("profile", run, "--device", device, "-q")[0] == 0
    assert invoke("check", run)[0] == 0


@pytest.mark.parametrize("options", [["--launches", 2], ["--rounds", 3]])
def test_options_that_only_spell_out_the_protocol_are_kept_apart_too(run, device, options):
    """They have keys of their own, so that a later call does not take one for the other."""
    before = gated(run)
    assert invoke("profile", run, "--device", device, "-q", *options)[0] == 0
    assert gated(run) == before
    assert len(list((run / "extra" / "measure").iterdir())) == 1


def test_a_device_of_the_same_name_that_is_declared_otherwise_is_kept_apart(run, device, tmp_path):
    other = tmp_path / "quick.yaml"
    other.write_text(device.read_text().replace("launches: 2", "launches: 1"))
    assert other.read_text() != device.read_text()
    trusted(other)
    before = gated(run)
    assert invoke("profile", run, "--device", other, "-q")[0] == 0
    assert gated(run) == before
    assert len(list((run / "extra" / "measure").iterdir())) == 1


def test_a_run_that_an_older_version_began_says_what_to_do(run):
    values = json.loads((run / "run.json").read_text())
    del values["devices"]
    (run / "run.json").write_text(json.dumps(values))
    with pytest.raises(Exception, match=r"`devices` is missing.*edgecr compress.*again"):
        invoke("check", run)


def test_changed_options_of_the_shipped_target_do_not_matter_to_a_finished_run(run, monkeypatch):
    def gone(*_):
        raise AssertionError("a finished run is judged by what it recorded")

    monkeypatch.setattr("edgecr.exporters.base.load_target", gone)
    monkeypatch.setattr("edgecr.runners.base.load_device", gone)
    assert invoke("check", run)[0] == 0


# A run folder is data


HEAVY = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "albumentations", "sklearn", "cv2", "scipy")


@pytest.mark.parametrize("command", ["check", "report"])
def test_judging_imports_nothing_heavy(run, command):
    script = (
        f"import sys\nfrom edgecr.cli import app\nfrom typer.testing import CliRunner\n"
        f"assert CliRunner().invoke(app, [{command!r}, {str(run)!r}]).exit_code == 0\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert ast.literal_eval(done.stdout.strip().splitlines()[-1]) == []


@pytest.fixture
def foreign(run, tmp_path):
    """A run whose model is code of the sender's, with records that agree, in a folder where that code could run."""
    marker = str(tmp_path / "marker")
    (tmp_path / "boom.py").write_text(f"open({marker!r}, 'w').close()\ndef make(num_classes): 1 / 0\n")
    for name in ("run.json", "baseline/subject.json", "candidate/subject.json"):
        values = json.loads((run / name).read_text())
        if name == "run.json":
            values["recipe"]["model"] = values["canonical"]["model"] = {"arch": "boom:make"}
            values["allow_code"] = True
        else:
            values["architecture"] = {"arch": "boom:make"}
        (run / name).write_text(json.dumps(values))
    for record in (run / "stages").glob("*.json"):
        values = json.loads(record.read_text())
        values["outputs"] = {file: sha256(run / file) for file in values["outputs"]}
        record.write_text(json.dumps(values))
    return run


@pytest.mark.parametrize(
    "words", [["report"], ["check"], ["compare"], ["profile"], ["robustness"], ["export"]], ids=lambda words: words[0]
)
def test_a_foreign_run_runs_no_code(edgecr_here, foreign, device, tmp_path, words):
    (command,) = words
    extra = {"profile": ["--device", device, "--launches", 1], "compare": [foreign]}.get(command, [])
    done = edgecr_here(command, foreign, *extra)
    assert "Traceback" not in done.stderr
    assert "fault in EdgeCR" not in done.stderr
    assert not (tmp_path / "marker").exists()
    if command == "export":
        assert done.returncode == 2
        assert "--allow-code" in done.stderr
        assert "Exporting" not in done.stderr


def test_another_target_of_the_same_name_is_not_exported_over_the_judged_one(edgecr_here, run, tmp_path):
    file = tmp_path / "other.yaml"
    file.write_text("name: onnx\npurpose: another\nformat: onnx\nopset: 18\n")
    before = sha256(run / "export/onnx/candidate/model.onnx")
    done = edgecr_here("export", run, "--target", file)
    assert (done.returncode, "a name of its own" in done.stderr) == (2, True), done.stderr
    assert sha256(run / "export/onnx/candidate/model.onnx") == before
    assert edgecr_here("check", run).returncode == 0


def test_permission_to_run_code_is_for_the_models_of_the_recipe(edgecr_here, run, tmp_path):
    marker = tmp_path / "marker"
    (tmp_path / "boom.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    subject, record = run / "candidate" / "subject.json", run / "stages" / "candidate.json"
    subject.write_text(json.dumps(json.loads(subject.read_text()) | {"architecture": {"arch": "boom:make"}}))
    changed = edgecr_here("export", run, "--allow-code")
    assert (changed.returncode, "is not what was set aside" in changed.stderr) == (2, True)
    values = json.loads(record.read_text())
    values["outputs"]["candidate/subject.json"] = sha256(subject)
    record.write_text(json.dumps(values))
    forged = edgecr_here("export", run, "--allow-code")
    assert (forged.returncode, "names code that the run's recipe does not name" in forged.stderr) == (2, True)
    assert not marker.exists()


OWN = (
    "import torch\nfrom torch import nn\n\n\ndef net(num_classes):\n"
    "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
    "nn.Linear(8, num_classes))\n"
)


@pytest.mark.slow
def test_a_run_of_own_code_reports_after_it_was_refused(edgecr, edgecr_here, mini_recipe, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    changes = [
        "--set",
        "model={arch: 'own:net'}",
        "--set",
        "steps=[{prune: {sparsity: 0.25, align: off}}]",
        "--set",
        "robustness.suites=[clean]",
        "--set",
        "measure.devices=[]",
        "-q",
    ]
    refused = edgecr_here("compress", mini_recipe, *changes)
    assert refused.returncode == 2
    assert "--allow-code" in refused.stderr
    done = edgecr("compress", mini_recipe, *changes, "--allow-code")
    assert done.returncode == 0, done.stderr
    for run in (tmp_path / "runs").glob("mini-*"):
        assert "allow_code" not in (run / "run.json").read_text()
        if (run / "report.json").exists():
            (tmp_path / "own.py").unlink()
            for command in ("report", "check"):
                done = edgecr_here(command, run)
                assert done.returncode == 0, done.stderr
