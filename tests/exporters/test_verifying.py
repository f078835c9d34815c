"""An artifact proves itself: whatever is changed in its folder is found, without torch."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

import edgecr
from edgecr.cli import app
from edgecr.core.errors import ExportRefused, FileProblem
from edgecr.core.files import write_json
from edgecr.exporters import Artifact, exporters
from edgecr.exporters.artifact import MANIFEST, FileFacts, sealed
from edgecr.exporters.bare import artifact_of
from edgecr.exporters.folder import REFUSED
from edgecr.exporters.stored_proof import MOST_BYTES, PROOF, StoredProof
from edgecr.exporters.verifying import verify
from edgecr.predictors.torch_predictor import TorchPredictor
from edgecr.report.result import Status
from tests.exporters.test_base import first_schema
from tests.exporters.tiny_subjects import ThreeLayers, export, images, preprocessing, subject_of


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of an artifact's folder."""
    return shutil.copytree(exported[1].path.parent, tmp_path / "copy")


def outcome(path):
    """The last check and its status: the others before it passed."""
    found = verify(path)
    assert [check.status for check in found.checks[:-1]] == [Status.PASS] * (len(found.checks) - 1)
    return found.checks[-1].name, found.status


def forge(folder, change):
    """Rewrites the manifest, with a digest that fits."""
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    write_json(folder / MANIFEST, sealed(values))


def adopt(folder, name):
    """Forges the manifest so that it names a file as it is now."""
    facts = FileFacts.of(folder / name)
    forge(folder, lambda values: values["evidence"].update({name: asdict(facts)}))


@pytest.mark.parametrize("name", ["", "model.onnx", MANIFEST])
def test_an_artifact_passes_by_any_of_its_names(folder, name):
    found = verify(folder / name)
    assert [(check.name, check.status) for check in found.checks] == [
        (name, Status.PASS) for name in ("manifest", "files", "receipt", "parity")
    ]
    assert "7 stored images" in found.checks[-1].text
    assert edgecr.verify(folder).checks == found.checks


def test_one_flipped_byte_anywhere_is_found(folder):
    """Also in the parts of the manifest that nothing reads."""
    dice = random.Random(7)
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        for place in {0, len(whole) - 1, *dice.sample(range(len(whole)), 60)}:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << dice.randrange(8)
            file.write_bytes(damaged)
            found = verify(folder)
            assert found.exit_code, (file.name, place)
            assert len(found.checks) < 3, "a file that is not the exported one was looked into"
        file.write_bytes(whole)
    assert verify(folder).exit_code == 0


@pytest.mark.parametrize("text", ["{}", "[]", '{"schema": 9}', "", '"', "[" * 100_000])
def test_a_manifest_that_is_none_never_passes(folder, text):
    (folder / MANIFEST).write_text(text)
    assert verify(folder).exit_code


def test_files_that_are_cut_short_missing_or_elsewhere_are_told(folder, tmp_path):
    model = folder / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[:100])
    assert "cut short" in verify(folder).checks[-1].text
    model.unlink()
    assert "does not exist" in verify(folder).checks[-1].text
    (tmp_path / "elsewhere").write_bytes(whole)
    model.symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in verify(folder).checks[-1].text
    assert outcome(folder) == ("files", Status.FAIL)
    (tmp_path / "alone.onnx").write_bytes(whole)
    assert outcome(tmp_path / "alone.onnx") == ("manifest", Status.INCOMPLETE)
    assert outcome(tmp_path / "nothing") == ("manifest", Status.INCOMPLETE)


def test_links_within_the_path_of_a_further_file_are_found(folder, tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "w.bin").write_bytes(b"")
    (folder / "parts").symlink_to(tmp_path / "parts")
    adopt(folder, "parts/w.bin")
    assert "symbolic link" in verify(folder).checks[-1].text


def test_a_manifest_that_leads_out_of_its_folder_is_refused(folder):
    forge(folder, lambda values: values["evidence"].update({"../x": values["evidence"][PROOF]}))
    assert "outside of itself" in verify(folder).checks[-1].text
    forge(folder, lambda values: values.update(path="../model.onnx", evidence={}))
    assert outcome(folder) == ("manifest", Status.FAIL)


def test_weights_that_the_manifest_does_not_name_are_found(folder):
    model = folder / "model.onnx"
    onnx.save(onnx.load(model), model, save_as_external_data=True, location="w.bin", size_threshold=64)
    facts = FileFacts.of(model)
    forge(folder, lambda values: values.update(sha256=facts.sha256, size_bytes=facts.size_bytes))
    assert "reads weights from w.bin, which its manifest does not name" in verify(folder).checks[-1].text
    (folder / "w.bin").unlink()
    assert "missing" in verify(folder).checks[-1].text
    assert outcome(folder) == ("receipt", Status.FAIL)


@pytest.mark.parametrize("change", [{"macs": 1}, {"channels": 0}, {"weights": None}, None, 3])
def test_a_receipt_of_other_figures_is_found(folder, change):
    file = json.loads((folder / MANIFEST).read_text())["receipt"]["file"]
    told = file | change if isinstance(change, dict) else change
    forge(folder, lambda values: values["receipt"].update(file=told))
    assert outcome(folder) == ("receipt", Status.FAIL)


def test_other_weights_of_the_same_shapes_fail_parity(folder):
    """Even where the hashes were forged: the file must still answer like the model that was exported."""
    model = onnx.load(folder / "model.onnx")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "7.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.1), weight.name))
    onnx.save(model, folder / "model.onnx")
    facts = FileFacts.of(folder / "model.onnx")
    forge(folder, lambda values: values.update(sha256=facts.sha256, size_bytes=facts.size_bytes))
    assert outcome(folder) == ("parity", Status.FAIL)


def test_a_proof_of_other_content_is_found(folder):
    stored = StoredProof.load(folder / PROOF)
    shifted = {name: values + np.float32(0.01) for name, values in stored.outputs.items()}
    for images_, outputs in ((stored.images, shifted), (stored.images[:3], {"logits": stored.outputs["logits"][:3]})):
        StoredProof(images_, outputs).save(folder)
        facts = FileFacts.of(folder / PROOF)
        forge(
            folder, lambda v, f=facts: v["evidence"].update({PROOF: {"sha256": f.sha256, "size_bytes": f.size_bytes}})
        )
        assert outcome(folder) == ("parity", Status.FAIL)


def test_the_proof_holds_what_pytorch_said_and_equal_exports_give_equal_bytes(exported, tmp_path):
    subject, artifact = exported
    stored = StoredProof.load(artifact.path.parent / PROOF)
    np.testing.assert_array_equal(stored.images, images(7))
    expected = TorchPredictor(subject.module, preprocessing()).predict(images(7))["logits"]
    np.testing.assert_array_equal(stored.outputs["logits"], expected)
    again = export(subject, tmp_path)
    assert (tmp_path / PROOF).read_bytes() == (artifact.path.parent / PROOF).read_bytes()
    assert again.evidence == artifact.evidence
    assert (list(artifact.evidence), artifact.beside) == ([PROOF], ())
    assert artifact.identity == artifact.sha256
    assert artifact.size_bytes == artifact.path.stat().st_size


@pytest.mark.parametrize(("count", "side", "kept"), [(1, 4, 1), (5, 4, 5), (64, 4, 16), (64, 500, 5), (9, 1500, 2)])
def test_a_stored_proof_is_bounded_and_spread(count, side, kept):
    numbered = np.arange(count, dtype=np.uint8)[:, None, None, None]
    whole = StoredProof(np.broadcast_to(numbered, (count, side, side, 3)), {"logits": np.zeros((count, 4), np.float32)})
    part = whole.part()
    assert len(part.images) == len(part.outputs["logits"]) == kept
    assert part.images.nbytes <= MOST_BYTES or kept == 2
    assert (part.images[0].min(), part.images[-1].max()) == (0, count - 1 if kept > 1 else 0)


def test_a_share_of_some_images_may_be_smaller_than_that_of_all():
    from edgecr.exporters.parity import Difference, limits_of_some
    from edgecr.exporters.target import ParityLimits

    def shown(agreement, cosine=1.0):
        return Difference(0.0, 0.0, agreement, "logits", cosine)

    whole, some = {"logits": np.array([[8.0], [2.0]])}, {"logits": np.array([[2.0]] * 16)}
    found = limits_of_some(ParityLimits(1e-3, 1e-4, 0.9, 0.95), whole, some, shown(15 / 16))
    assert found == ParityLimits(1e-3, 4e-4, 14 / 16, 0.95)
    assert limits_of_some(ParityLimits(None, None, 0.9, None), whole, some, shown(0.5)).agreement == 0.5
    assert limits_of_some(ParityLimits(agreement=1.0), whole, some, shown(1.0)).agreement == 1.0
    one_turned = limits_of_some(ParityLimits(cosine=0.8), whole, some, shown(1.0, cosine=0.6))
    assert one_turned.cosine == pytest.approx(0.58)


def test_an_artifact_of_an_earlier_version_cannot_vouch_for_itself(folder):
    first_schema(folder / MANIFEST)
    found = verify(folder)
    assert found.exit_code == 2
    told = {check.name: check for check in found.checks}
    assert told["files"].status is told["receipt"].status is Status.PASS
    for name in ("manifest", "parity"):
        assert told[name].status is Status.INCOMPLETE
        assert "earlier version" in told[name].text
        assert "export the model again" in told[name].text
    artifact_of(folder / "model.onnx")


@pytest.mark.parametrize("change", [{"format": "toy"}, {"task": "telepathy"}])
def test_what_is_not_known_here_cannot_be_checked(folder, change):
    forge(folder, lambda values: values.update(change) if "format" in change else values["parity"].update(change))
    assert verify(folder).exit_code == 2


def test_a_format_that_cannot_be_counted_alone_says_so(folder, monkeypatch):
    monkeypatch.setattr(exporters.get("onnx"), "recount", lambda *_: None)
    found = verify(folder)
    assert [check.status.value for check in found.checks] == ["PASS", "PASS", "INCOMPLETE", "PASS"]


def test_a_rejected_file_is_no_artifact_and_the_next_export_takes_it_away(exported, folder):
    rejected = [folder / "model.onnx.rejected", folder / "parts" / "w.bin.rejected"]
    rejected[1].parent.mkdir()
    for file in rejected:
        shutil.copy(folder / "model.onnx", file)
    write_json(folder / REFUSED, {"files": ["model.onnx", "parts/w.bin"]})
    for read in (artifact_of, Artifact.load):
        with pytest.raises(FileProblem, match="was refused when it was exported"):
            read(rejected[0])
    assert outcome(rejected[0]) == ("manifest", Status.FAIL)
    export(exported[0], folder)
    assert not any(file.exists() for file in rejected)


@pytest.mark.parametrize("name", ["", "model.onnx", MANIFEST])
def test_a_folder_whose_export_was_refused_says_why(tmp_path, name):
    with pytest.raises(ExportRefused) as refused:
        export(subject_of(ThreeLayers(), cut=True, promised=lambda: ThreeLayers(4)), tmp_path)
    found = verify(tmp_path / name)
    assert (found.exit_code, found.checks[-1].name) == (1, "manifest")
    assert found.checks[-1].text.endswith(f"its export was refused: {refused.value}")
    (tmp_path / REFUSED).write_text("[]")
    assert "does not say why" in verify(tmp_path / name).checks[-1].text


def test_the_command_works_without_torch(folder):
    """As on a board: importing torch or torchvision fails."""
    code = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'lightning_fabric', 'sklearn'): sys.modules[name] = None\n"
        f"sys.argv = ['edgecr', 'verify', {str(folder)!r}, '--json']\n"
        "from edgecr.cli import main\nmain()"
    )
    root = os.path.dirname(os.path.dirname(edgecr.__file__))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    (told,) = json.loads(done.stdout)
    assert (told["status"], len(told["checks"])) == ("PASS", 4)


def test_the_command_prints_a_line_for_each_check_and_its_exit_code_is_that_of_the_worst(folder, tmp_path):
    def said(*paths):
        done = CliRunner().invoke(app, ["verify", *map(str, paths)])
        return done.exit_code, done.output

    code, output = said(folder)
    assert code == 0
    assert output.count("PASS ") == 4
    assert said(folder, tmp_path / "nothing")[0] == 2
    (folder / PROOF).unlink()
    code, output = said(folder, tmp_path / "nothing")
    assert code == 1
    assert f"{PROOF} does not exist" in output
