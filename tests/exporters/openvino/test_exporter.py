"""OpenVINO's files: what they hold, that they answer like PyTorch, and what is refused."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.core.errors import ExportRefused, RecipeError, RequestError, StorageError
from edgecr.core.files import write_json
from edgecr.exporters import Artifact, exporters, load_target
from edgecr.exporters.artifact import MANIFEST, sealed
from edgecr.exporters.openvino.count import contents
from edgecr.exporters.openvino.layers import for_one_image, layers_of
from edgecr.exporters.openvino.write import save
from edgecr.exporters.verifying import verify
from edgecr.predictors import predictor_for
from edgecr.predictors.onnx_file import notes_of, read_onnx
from edgecr.predictors.openvino_file import openvino_library, read_openvino
from edgecr.predictors.torch_predictor import TorchPredictor
from edgecr.surgery.counters import count
from tests.exporters.tiny_subjects import LABELS, ThreeLayers, images, preprocessing, subject_of, target
from tests.exporters.tiny_subjects import export as exported_as
from tests.skips import has_openvino

pytestmark = pytest.mark.skipif(not has_openvino(), reason="openvino is not installed")


def export(subject, folder, **options):
    return exported_as(subject, folder, **{"format": "openvino"} | options)


@pytest.fixture(scope="module")
def written(tmp_path_factory, exported):
    """The whole tiny network that was exported as ONNX, exported once."""
    return exported[0], export(exported[0], tmp_path_factory.mktemp("openvino"))


def notes(artifact):
    """EdgeCR's own notes in the file."""
    return read_openvino(artifact.path).get_rt_info(["edgecr"]).value


def test_manifest_describes_both_files(written):
    artifact = written[1]
    assert list(artifact.hashes) == ["model.xml", "model.bin"]
    assert artifact.size_bytes == sum(artifact.path.with_name(name).stat().st_size for name in artifact.hashes)
    assert artifact.input == {"name": "input", "dtype": "float32", "layout": "NCHW", "shape": [None, 3, 8, 8]}
    assert artifact.outputs == [{"name": "logits", "dtype": "float32", "shape": [None, 5]}]
    assert "openvino" in artifact.lineage["made_with"]
    assert Artifact.within(artifact.path.parent) == artifact
    artifact.verify()
    told = verify(artifact.path.parent)
    assert {check.status for check in told.checks} == {"PASS"}, told


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch_size_gives_the_answers_of_torch(written, batch):
    subject, artifact = written
    some = images(batch)
    expected = TorchPredictor(subject.module, preprocessing()).predict(some)["logits"]
    np.testing.assert_allclose(predictor_for(artifact).predict(some)["logits"], expected, atol=1e-5)


def test_the_file_says_what_it_belongs_to_and_nothing_of_the_machine(written, exported):
    artifact = written[1]
    told = {f"edgecr.{key}": text for key, text in notes(artifact).items()}
    assert json.loads(told.pop("edgecr.layers")) == ["0", "3", "7"]
    assert told == notes_of(read_onnx(exported[1].path)), "those of the ONNX file of the same subject"
    assert json.loads(told["edgecr.labels"]) == list(LABELS)
    text = artifact.path.read_text()
    for word in ("conversion_parameters", "DIR", "/tmp", str(Path.home()), "site-packages"):
        assert word not in text


def test_two_exports_are_byte_identical(written, tmp_path):
    assert export(written[0], tmp_path).hashes == written[1].hashes


def test_raw_pixels_of_one_image_at_a_time(written, tmp_path):
    subject, plain = written
    artifact = export(subject, tmp_path, embed_preprocessing=True, dynamic_batch=False)
    assert (artifact.input["dtype"], artifact.input["shape"]) == ("uint8", [1, 8, 8, 3])
    answers = [predictor_for(each).predict(images(3))["logits"] for each in (artifact, plain)]
    np.testing.assert_allclose(*answers, atol=1e-5)
    assert json.loads(notes(artifact)["preprocessing"])["embedded"] is True


class Everything(nn.Module):
    """Every kind of layer, branches that run in another order than they are added in, and one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.side = nn.Conv2d(3, 6, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.up_grouped = nn.ConvTranspose2d(8, 6, 2, 2, groups=2)
        self.rows = nn.Linear(6, 6)
        self.head = nn.Linear(6, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = self.side(x)
        x = self.grouped(torch.relu(self.grouped(self.first(x))))
        x = self.up_grouped(x)[..., :8, :8] + self.up(x)[..., :8, :8] + side
        return self.head(torch.relu(self.rows(x.permute(0, 2, 3, 1)).mean((1, 2))))


def test_every_kind_of_layer_is_counted_in_the_order_of_torch(tmp_path):
    module = Everything()
    for layer, axis in ((module.up, 1), (module.up_grouped, 1), (module.grouped, 0), (module.rows, 0)):
        layer.weight.data.select(axis, 2).zero_()
    subject = subject_of(module, untouched=Everything)
    artifact = export(subject, tmp_path)  # the receipt compares shapes, groups, MACs and order
    found = contents(artifact.path)
    expected = count(module, (3, 8, 8))
    assert [layer.macs for layer in found.file.layers] == [layer.macs for layer in expected.layers]
    assert [layer.name for layer in found.file.layers] == [
        "side", "first", "grouped", "grouped", "up_grouped", "up", "rows", "head",
    ]  # fmt: skip
    zeros = [found.zero_channels.get(layer.name, 0) for layer in found.file.layers]
    assert zeros == [0, 0, 1, 1, 2, 1, 1, 0]
    uses = [layer.operator.get_friendly_name() for layer in layers_of(for_one_image(read_openvino(artifact.path)))[2:4]]
    assert uses == ["grouped", "grouped#2"]


class Twice(nn.Module):
    """One convolution that runs twice, with a normalisation of its own behind each use."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm, self.other = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.again(self.first(x))))
        return self.head(torch.relu(self.other(self.again(x))).mean((2, 3)))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_each_use_of_a_layer_is_known_with_the_normalisation_behind_it(tmp_path, precision):
    artifact = export(subject_of(Twice(), untouched=Twice), tmp_path, calibration=4, precision=precision)
    uses = [layer.operator.get_friendly_name() for layer in layers_of(for_one_image(read_openvino(artifact.path)))]
    assert uses == ["first", "again", "again#2", "head"]
    assert artifact.receipt["file"]["weights"] == 3 * 8 * 9 + 8 * 8 * 9 + 8 * 5


def masked(module, kept):
    module[0].weight.data[kept:] = 0
    module[1].bias.data[kept:] = 0
    module[1].running_mean[kept:] = 0
    return module


def test_a_real_cut_in_half_floats_passes_and_the_receipt_says_what_went(tmp_path):
    subject = subject_of(ThreeLayers(4), cut=True, promised=lambda: ThreeLayers(4))
    artifact = export(subject, tmp_path, precision="fp16")
    receipt = artifact.receipt
    assert receipt["file"]["weights"] == receipt["promised"]["weights"] == 3 * 4 * 9 + 4 * 6 * 9 + 30
    assert receipt["file"]["macs"] == 64 * 3 * 4 * 9 + 16 * 4 * 6 * 9 + 30
    assert receipt["removed"]["channels"] == pytest.approx(4 / 19)
    assert [layer["file"] for layer in receipt["layers"]] == [[4, 3, 3, 3], [6, 4, 3, 3], [5, 6]]
    assert artifact.path.with_suffix(".bin").stat().st_size < 0.6 * 4 * receipt["file"]["parameters"]
    assert 0 < artifact.parity["max_rel"] < 1e-2


def test_what_is_only_masked_is_refused(tmp_path):
    subject = subject_of(masked(ThreeLayers(), 4), cut=True, promised=lambda: ThreeLayers(4))
    with pytest.raises(ExportRefused, match="receipt: 19 channels in the file, 15 promised"):
        export(subject, tmp_path)
    kept = ["model.bin.rejected", "model.xml.rejected", "refused.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


@pytest.mark.parametrize(("package", "precision"), [("openvino", "fp32"), ("nncf", "int8")])
def test_a_missing_package_is_told_before_any_work(package, precision, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RequestError, match=rf'{package} is needed.*pip install "edgecr\[openvino\]"'):
        exporters.get("openvino")().check(target(format="openvino", precision=precision))


@pytest.mark.parametrize("package", ["openvino", "nncf"])
def test_an_installation_that_is_broken_is_told_by_its_name(package, tmp_path, monkeypatch):
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise OSError('libtbb.so.12: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(RequestError, match=rf"The package {package} is installed.*cannot be imported: libtbb"):
        openvino_library(package)


def test_what_cannot_be_checked_without_the_package_is_no_fault_of_the_files(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = [(check.name, check.status.value) for check in verify(written[1].path).checks]
    assert found[1:] == [("files", "PASS"), ("receipt", "INCOMPLETE"), ("parity", "INCOMPLETE")]


def test_a_manifest_of_another_format_than_its_file_is_found(exported, tmp_path):
    folder = shutil.copytree(exported[1].path.parent, tmp_path / "copy")
    values = json.loads((folder / MANIFEST).read_text())
    write_json(folder / MANIFEST, sealed(values | {"format": "openvino"}))
    found = verify(folder)
    assert (found.exit_code, found.checks[-1].name) == (1, "receipt")
    assert "model.bin does not exist" in found.checks[-1].text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("full", ["model.xml", "model.bin"])
def test_a_full_disk_is_told_as_one(written, tmp_path, full):
    model = read_openvino(written[1].path)
    (tmp_path / full).symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"Cannot write .*model\.xml: the disk is full"):
        save(model, tmp_path / "model.xml")


def test_integers_are_refused_on_arm_and_floats_are_not(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    check = exporters.get("openvino")().check
    check(target(format="openvino"))
    with pytest.raises(RequestError, match="does not compute in on an ARM processor"):
        check(target(format="openvino", precision="int8"))


@pytest.mark.parametrize("name", ["openvino", "openvino-fp16", "openvino-int8"])
def test_shipped_targets_can_be_written(name):
    declared = load_target(name)
    assert (declared.name, declared.format, declared.runtimes) == (name, "openvino", ("openvino",))
    exporters.get("openvino")().check(declared)


def test_settings_of_8_bits_belong_to_them(tmp_path):
    (tmp_path / "t.yaml").write_text("name: t\npurpose: p\nformat: openvino\nquantise: {preset: mixed}\nopset: 20\n")
    with pytest.raises(RecipeError) as told:
        load_target(str(tmp_path / "t.yaml"))
    assert "opset: unknown key" in str(told.value)
    (tmp_path / "t.yaml").write_text("name: t\npurpose: p\nformat: openvino\nquantise: {preset: mixed}\n")
    with pytest.raises(RecipeError, match="quantise belongs to precision: int8, but precision is fp32"):
        load_target(str(tmp_path / "t.yaml"))
