from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from edgecr.core.errors import FileProblem, RecipeError, UnsupportedModel
from edgecr.core.files import write_json
from edgecr.exporters import Artifact, load_target, manifest_path, parse_target
from edgecr.exporters.artifact import MANIFEST, sealed
from edgecr.exporters.bare import artifact_of


@pytest.fixture
def copied(exported, tmp_path) -> Artifact:
    artifact = exported[1]
    for file in (artifact.path, manifest_path(artifact.path)):
        shutil.copy(file, tmp_path)
    return Artifact.load(tmp_path / "model.onnx")


def test_a_file_with_its_manifest_is_itself(copied):
    copied.verify()
    assert artifact_of(copied.path) == copied


def test_a_file_that_was_changed_is_found_out(copied):
    copied.path.write_bytes(copied.path.read_bytes() + b"\0")
    with pytest.raises(FileProblem, match="was changed after it was exported"):
        artifact_of(copied.path)


def test_a_manifest_without_its_file_is_explained(copied):
    copied.path.unlink()
    with pytest.raises(FileProblem, match=r"model\.onnx does not exist"):
        artifact_of(copied.path)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"schema": 3}', '{"schema": 4}', '{"schema": 1}', '{"schema": 2, "colour": 1}']
)
def test_a_damaged_manifest_is_a_file_problem(copied, content):
    manifest_path(copied.path).write_text(content)
    with pytest.raises(FileProblem, match="manifest"):
        Artifact.load(copied.path)


def test_a_users_own_file_says_what_it_can(copied):
    manifest_path(copied.path).unlink()
    bare = artifact_of(copied.path)
    assert bare.input == copied.input
    assert bare.outputs == copied.outputs
    assert (bare.sha256, bare.size_bytes) == (copied.sha256, copied.size_bytes)
    assert (bare.receipt, bare.parity) == ({}, {})


@pytest.mark.parametrize("parity", ["{agreement: 1.5}", "{max_abs: -1}", "{max_rel: nan}", "{tolerance: 1}"])
def test_tolerances_that_make_no_sense_are_named_with_their_line(tmp_path, parity):
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\npurpose: a test\nformat: onnx\nparity: {parity}\n")
    with pytest.raises(RecipeError, match=r"mine\.yaml:4: parity"):
        load_target(str(file))


def test_a_users_file_with_two_inputs_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("a", "b", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "g", ends[:2], ends[2:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9),
        tmp_path / "m.onnx",
    )
    with pytest.raises(UnsupportedModel, match=r"2 inputs \(a, b\)"):
        artifact_of(tmp_path / "m.onnx")


def test_the_manifest_is_plain_json_without_paths_of_this_machine(exported):
    path = exported[1].path
    values = json.loads(manifest_path(path).read_text())
    assert values["path"] == "model.onnx"
    assert str(path.parent) not in manifest_path(path).read_text()


def first_schema(manifest) -> None:
    """Rewrites a manifest as the first edition wrote it: one output, no further files."""
    values = json.loads(manifest.read_text())
    for key in ("files", "evidence", "digest"):
        del values[key]
    (values["output"],) = values.pop("outputs")
    manifest.write_text(json.dumps(values | {"schema": 1}))


def test_a_manifest_of_the_first_edition_is_read(copied):
    first_schema(manifest_path(copied.path))
    assert Artifact.load(copied.path) == Artifact.within(copied.path.parent) == replace(copied, evidence={})


def edit(artifact, **values) -> None:
    manifest = manifest_path(artifact.path)
    write_json(manifest, sealed(json.loads(manifest.read_text()) | values))


@pytest.mark.parametrize("path", ["../model.onnx", "/etc/passwd", "", "a/model.onnx", "other.onnx", 3, None])
def test_a_manifest_names_a_file_beside_it_and_no_other(copied, path):
    edit(copied, path=path)
    with pytest.raises(FileProblem, match=r"outside of itself|does not name the file"):
        Artifact.within(copied.path.parent)


@pytest.mark.parametrize("key", ["files", "evidence"])
@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", "a//b", "a\\b"])
def test_further_files_lie_inside_the_folder(copied, name, key):
    edit(copied, **{key: {name: {"sha256": "00", "size_bytes": 1}}})
    for read in (lambda: Artifact.load(copied.path), lambda: Artifact.within(copied.path.parent)):
        with pytest.raises(FileProblem, match="outside of itself"):
            read()


def test_a_folder_without_an_artifact_says_so(tmp_path):
    with pytest.raises(FileProblem, match=MANIFEST):
        Artifact.within(tmp_path)


def test_further_files_count_in_size_and_identity(copied):
    weights = copied.path.with_name("weights.bin")
    weights.write_bytes(b"12345")
    edit(copied, files={"weights.bin": {"sha256": "00", "size_bytes": 5}})
    told = Artifact.load(copied.path)
    found = told.as_it_is()
    assert found.size_bytes == copied.size_bytes + 5
    assert (copied.identity, found.hashes["model.onnx"]) == (copied.sha256, copied.sha256)
    assert len({copied.identity, told.identity, found.identity}) == 3
    with pytest.raises(FileProblem, match=r"weights\.bin was changed"):
        told.verify()
    found.verify()
    edit(copied, path="model.onnx", files={"model.onnx": {"sha256": "00", "size_bytes": 5}})
    with pytest.raises(FileProblem, match=r"is a part of model\.onnx"):
        Artifact.load(copied.path)


def test_the_size_of_a_users_file_includes_its_weights(tmp_path):
    import onnx

    from tests.runners.tiny_device import write_onnx

    path = write_onnx(tmp_path / "m.onnx", 8)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    bare = artifact_of(path)
    assert bare.size_bytes == path.stat().st_size + 8 * 27 * 4
    assert list(bare.hashes) == ["m.onnx", "m.data"]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_settings_of_integers_are_refused_where_there_are_none(precision):
    values = {"name": "t", "purpose": "a test", "format": "onnx", "precision": precision, "quantise": {}}
    with pytest.raises(ValueError, match=f"quantise belongs to precision: int8, but precision is {precision}"):
        parse_target(values)


def test_the_shipped_targets_of_fewer_bits_can_be_read():
    found = {name: load_target(name) for name in ("onnx-int8", "onnx-int8-arm", "onnx-fp16")}
    assert [target.precision for target in found.values()] == ["int8", "int8", "fp16"]
    assert found["onnx-int8-arm"].quantise.activations == "int8"
    assert parse_target(found["onnx-int8"].plain()) == found["onnx-int8"]
