"""The folder of an artifact: what exports wrote there goes, what they did not stays."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgecr.core.errors import ExportRefused, RequestError, RunBusy
from edgecr.core.files import locked, write_json
from edgecr.exporters import Artifact
from edgecr.exporters.artifact import MANIFEST
from edgecr.exporters.folder import REFUSED, ExportFolder
from edgecr.exporters.stored_proof import PROOF
from tests.exporters.tiny_subjects import ThreeLayers, export, subject_of


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of an artifact's folder."""
    return shutil.copytree(exported[1].path.parent, tmp_path / "copy")


def names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def export_again(folder: Path, artifact: Artifact) -> Artifact:
    """The same files put into a folder once more, without writing and proving them."""
    with ExportFolder.held(folder) as place:
        place.check(artifact.hashes)
        for name in (*artifact.hashes, *artifact.evidence):
            shutil.copy(artifact.path.parent / name, place.fresh)
        return place.keep(replace(artifact, path=place.fresh / artifact.path.name))


OWN = [
    "model.pt",
    "model.safetensors",
    "model.txt",
    ".export.cfg",
    ".export.d/notes.txt",
    "data/x.rejected",
    "y.rejected",
]


@pytest.mark.parametrize("sound", [True, False])
def test_no_file_of_the_users_is_touched(exported, tmp_path, sound):
    for name in OWN:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    for _ in range(2):
        if sound:
            export_again(tmp_path, exported[1])
        else:
            with pytest.raises(ExportRefused):
                export(subject_of(ThreeLayers(), cut=True, promised=lambda: ThreeLayers(4)), tmp_path)
    written = ["model.onnx", MANIFEST, PROOF] if sound else ["model.onnx.rejected", REFUSED]
    assert names(tmp_path) == sorted([*OWN, *written])
    assert all((tmp_path / name).read_text() == name for name in OWN)


def test_a_file_that_no_manifest_names_is_not_overwritten_and_found_before_any_work(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("edgecr.exporters.onnx.write.write", lambda *_: pytest.fail("work was done"))
    (tmp_path / "model.onnx").write_text("mine")
    with pytest.raises(RequestError, match=r"model\.onnx is in the place of.*give another folder"):
        export(exported[0], tmp_path)
    assert names(tmp_path) == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_text() == "mine"


def test_further_files_of_an_export_overwrite_nothing_of_the_users_either(exported, folder):
    (folder / "weights.bin").write_text("mine")
    before = names(folder)
    with pytest.raises(RequestError, match=r"weights\.bin"), ExportFolder.held(folder) as place:
        place.check(["model.onnx", "weights.bin"])
    assert names(folder) == before
    Artifact.within(folder).verify()


def test_a_manifest_leads_to_no_file_outside_of_the_folder(exported, folder, tmp_path):
    (tmp_path / "mine").mkdir()
    kept = [tmp_path / "mine" / "a.bin", tmp_path / "b.bin"]
    for file in kept:
        file.write_text("mine")
    (folder / "link").symlink_to(tmp_path / "mine")
    values = json.loads((folder / MANIFEST).read_text())
    write_json(folder / MANIFEST, values | {"files": {"link/a.bin": {}, "../b.bin": {}}})
    export_again(folder, exported[1])
    assert all(file.read_text() == "mine" for file in kept)


@pytest.mark.parametrize("moves", range(3))
def test_an_export_that_was_killed_while_it_moved_its_files_is_in_nobodys_way(exported, folder, moves, monkeypatch):
    """The third move is that of the manifest; a killed process cleans nothing up."""
    done, whole = [], ExportFolder._move

    def move(place, names, ending=""):
        for name in names:
            if len(done) == moves:
                raise KeyboardInterrupt
            done.append(whole(place, [name], ending))

    with monkeypatch.context() as patched:
        patched.setattr(ExportFolder, "_move", move)
        patched.setattr("edgecr.exporters.folder.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            export_again(folder, exported[1])
    assert not (folder / MANIFEST).exists()
    assert len(done) == moves
    export_again(folder, exported[1]).verify()
    assert names(folder) == ["model.manifest.json", "model.onnx", "proof.safetensors"]


def _hold(folder: Path, ready, done) -> None:
    with ExportFolder.held(folder) as place:
        (place.fresh / "model.onnx").write_text("unfinished")
        ready.set()
        done.wait(30)
        assert (place.fresh / "model.onnx").read_text() == "unfinished"


def test_a_second_export_into_the_folder_is_told_of_the_first_and_leaves_it_alone(exported, tmp_path):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(tmp_path, ready, done))
    first.start()
    assert ready.wait(30)
    with pytest.raises(RunBusy, match=r"Another export is writing into .*\. Wait for it, or give another folder"):
        export(exported[0], tmp_path)
    done.set()
    first.join(30)
    assert first.exitcode == 0
    assert names(tmp_path) == []
    export_again(tmp_path, exported[1]).verify()


def test_a_lock_that_its_owner_removes_is_never_held_twice(tmp_path):
    file = tmp_path / "lock"
    for _ in range(2):
        with locked(file, remove=True):
            assert file.exists()
        assert not file.exists()
