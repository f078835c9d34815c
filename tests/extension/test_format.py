"""A format from outside: its target, exporter, runtime and predictor, through a whole run, without a change to edgecr.

A toy file wraps an ONNX graph; its weights lie in a second file, and nothing but the toy runtime can read it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import EdgecrError, ExportRefused, NotConfigured, RecipeError, RequestError
from edgecr.core.files import sha256
from edgecr.core.progress import Monitor
from edgecr.data.views import HeldOutData, ProofData
from edgecr.exporters import Artifact, Exporter, Target, Written, exporters, load_target
from edgecr.exporters.onnx import OnnxExporter
from edgecr.exporters.onnx.declaration import PLAIN
from edgecr.pipeline import compress
from edgecr.predictors import predictor_for, predictors, preprocessing_of
from edgecr.predictors.onnx_predictor import OnnxPredictor
from edgecr.recipe import load_recipe
from edgecr.report.result import Verdict
from edgecr.runners.base import load_device
from edgecr.runners.measurement.record import Measurement
from edgecr.runners.runtimes import RuntimeOptions, runtimes
from edgecr.stages.judge import judged
from edgecr.stages.reload import load_again
from edgecr.stages.robustness import robustness
from edgecr.training.context import Execution
from tests.conftest import SMALL
from tests.workplace import Memory, dataset, subject, trusted

HEADER = b"TOY\n"
TARGET = "name: toy\npurpose: a format from outside\nformat: toy\ncalibrate: 9\n"
DEVICE = """\
name: quick
purpose: this machine, measured only as long as a test needs
kind: cpu
transport: {kind: local}
runtimes: {toy: {colour: red}}
protocol: {launches: 2, rounds: 3, round_s: 0.02, warmup: {window_s: 0.02, max_s: 0.2}}
"""


class ToyTarget(Target):
    """A toy file."""

    runtimes: ClassVar[tuple[str, ...]] = ("toy",)
    main: ClassVar[str] = "model.toy"

    format: Literal["toy"]
    calibrate: int
    """Images that it is calibrated with."""


class ToyOptions(RuntimeOptions):
    """Settings of the toy runtime."""

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    agent_module: ClassVar[Path | None] = Path(__file__).with_name("agent_toy.py")

    colour: Literal["red", "blue"]
    """Of no use, but recorded."""


class ToyExporter(Exporter[ToyTarget]):
    target: ClassVar[type[Target]] = ToyTarget

    def check(self, target):
        if target.calibrate < 1:
            raise RequestError("A toy file needs at least one image to calibrate with.")

    def write(self, subject, target, proof, folder):
        from edgecr.exporters.onnx.write import write

        images = proof.calibration(target.calibrate)
        written = write(subject, PLAIN, proof.preprocessing, folder / "plain")
        onnx.save(
            onnx.load(folder / "plain"), folder / "plain", save_as_external_data=True,
            location="model.weights", size_threshold=1024,  # small constants are shapes, which the runtime reads early
        )  # fmt: skip
        (folder / "model.toy").write_bytes(HEADER + (folder / "plain").read_bytes())
        (folder / "plain").unlink()
        return Written("model.toy", written.input, written.outputs, {"calibrated_on": len(images)})

    def receipt(self, subject, file):
        with tempfile.TemporaryDirectory() as folder:
            return OnnxExporter().receipt(subject, unwrapped(file, Path(folder)))


def unwrapped(file: Path, folder: Path) -> Path:
    """The ONNX file inside a toy file, with its weights in it."""
    shutil.copy(file.with_name("model.weights"), folder)
    (folder / "model.onnx").write_bytes(file.read_bytes().removeprefix(HEADER))
    return folder / "model.onnx"


def toy_predictor(artifact, settings):
    with tempfile.TemporaryDirectory() as folder:
        file = unwrapped(artifact.path, Path(folder))
        return OnnxPredictor(file, preprocessing_of(artifact), threads=settings["threads"])


@pytest.fixture(scope="module", autouse=True)
def toy():
    """Registers all that there is to register, and takes it back for the tests of other files."""
    added = [
        (exporters, "toy", ToyExporter), (runtimes, "toy", ToyOptions),
        (predictors, "toy", toy_predictor), (predictors, "toy/toy", toy_predictor),
    ]  # fmt: skip
    for registry, name, item in added:
        registry.register(name)(item)
    yield
    for registry, name, _ in added:
        del registry._items[name]


@pytest.fixture(scope="module")
def world(tmp_path_factory, config_folder, toy):
    """A folder with the target, the device and the recipe, and the run that they made."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.yaml").write_text(TARGET)
    (folder / "quick.yaml").write_text(DEVICE)
    trusted(folder / "quick.yaml")
    text = SMALL.replace("DEVICE", str(folder / "quick.yaml")).replace("[onnx]", f"[{folder / 'toy.yaml'}]")
    (folder / "small.yaml").write_text(text)
    recipe = load_recipe(str(folder / "small.yaml"))
    return folder, *compress(recipe, "", folder / "runs", Execution(), Monitor())


@pytest.fixture
def run(world, tmp_path):
    """A copy of the run to damage."""
    made = world[1]
    return type(made)(shutil.copytree(made.folder, tmp_path / made.folder.name))


def artifact_of(run, role="candidate") -> Artifact:
    return Artifact.within(run.export("toy") / role)


def test_a_recipe_with_it_ships(world):
    _, run, result = world
    assert result.verdict is Verdict.SHIP, result.gates
    artifact = artifact_of(run)
    assert list(artifact.hashes) == ["model.toy", "model.weights"]
    assert artifact.size_bytes == sum((artifact.path.parent / name).stat().st_size for name in artifact.hashes)
    assert [model.size_bytes for model in result.models if model.role == "candidate"] == [artifact.size_bytes]
    assert artifact.lineage["made_with"] == {"calibrated_on": 9}
    assert artifact.parity["agreement"] == 1
    assert artifact.receipt["removed"]["channels"] > 0


def test_it_was_measured_in_its_own_runtime_with_both_files(world):
    _, run, _ = world
    measured = Measurement.load(run.measurement("quick", "toy"))
    assert measured.error is None
    assert {arm.runtime for arm in measured.arms} == {"toy"}
    assert {arm.label: arm.sha256 for arm in measured.arms} == {
        role: artifact_of(run, role).identity for role in ("baseline", "candidate")
    }
    info = measured.launches[0].starts[0].info
    assert (info["runtime"], info["colour"]) == ("toy", "red")
    assert measured.device.runtimes["toy"] == ToyOptions(colour="red")
    assert "onnxruntime" in measured.facts["libraries"]


@pytest.mark.parametrize("name", ["model.toy", "model.weights"])
def test_a_changed_file_is_named_and_nothing_ships(run, name):
    file = artifact_of(run).path.with_name(name)
    file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    result = judged(run)
    assert result.verdict is Verdict.INCOMPLETE
    assert f"export/toy/candidate/{name}" in result.unverified


def vouch(run, file: Path) -> None:
    """Makes the record of the export stage vouch for a file as it is now."""
    stage = run.stage("export-toy-candidate")
    record = json.loads(stage.read_text())
    record["outputs"][file.relative_to(run.folder).as_posix()] = sha256(file)
    stage.write_text(json.dumps(record))


def test_a_file_that_the_manifest_does_not_know_is_found_out(run):
    stray = artifact_of(run).path.with_name("more.bin")
    stray.write_bytes(b"more")
    vouch(run, stray)
    result = judged(run)
    assert result.verdict is Verdict.INCOMPLETE
    assert "another file than the ones beside it" in result.unverified["export/toy/candidate/model.manifest.json"]


def test_other_weights_are_not_what_was_measured(run):
    artifact = artifact_of(run)
    weights = artifact.path.with_name("model.weights")
    shutil.copy(artifact_of(run, "baseline").path.with_name("model.weights"), weights)
    artifact.as_it_is().save()
    for file in (weights, weights.with_name("model.manifest.json")):
        vouch(run, file)
    result = judged(run)
    assert result.verdict is not Verdict.SHIP
    assert "other model files" in result.unverified["measure/quick@toy.json"]


def test_robustness_on_a_device_is_kept_apart(run, world):
    before = {path: path.read_bytes() for path in run.folder.glob("robustness/*/*")}
    data = HeldOutData.of(load_again(run, Monitor()))
    device = load_device(str(world[0] / "quick.yaml"))
    answered = robustness(run, "noise5", "toy", data, 12, Monitor(), device)
    assert answered.models == {role: artifact_of(run, role).identity for role in ("baseline", "candidate")}
    assert {path: path.read_bytes() for path in run.folder.glob("robustness/*/*")} == before
    assert len(list(run.folder.glob("extra/robustness/noise5@toy-*/robustness.json"))) == 1


def said(*arguments):
    """The exit code and the output of a command, or its explained error."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    error = done.exception
    if isinstance(error, EdgecrError):
        return error.exit_code, str(error)
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return done.exit_code, " ".join(done.output.split())


def test_commands_take_the_files(run, world):
    file, device = artifact_of(run).path, world[0] / "quick.yaml"
    code, output = said("profile", file, "--device", device, "--launches", 1, "--rounds", 1, "-q")
    assert code == 0, output
    code, output = said("robustness", file, "--device", device, "--images", 9, "-q")
    assert code == 0, output
    assert "9 test images" in output
    elsewhere = file.with_name("model.manifest.json").read_text()
    assert said("profile", file.with_name("model.weights"), "--device", device)[0] == 2
    assert file.with_name("model.manifest.json").read_text() == elsewhere


def test_a_board_whose_runtime_is_only_timed_is_refused_for_robustness(run, tmp_path):
    board = tmp_path / "board.yaml"
    board.write_text(DEVICE.replace("{kind: local}", "{kind: ssh, host: orin}").replace("quick", "board"))
    trusted(board)
    code, output = said("robustness", run.folder, "--device", board, "-q")
    assert (code, "'toy' can be timed on 'board', but not asked about images there" in output) == (2, True), output


def test_a_device_without_its_runtime_is_refused_before_any_work(world, tmp_path):
    folder = world[0]
    recipe = load_recipe(str(folder / "small.yaml"), ["measure.devices=[cpu]"])
    told = "'toy' cannot be measured: Device 'cpu' declares no runtime 'toy'.*edgecr export RUN --target toy"
    with pytest.raises(NotConfigured, match=told):
        compress(recipe, "", tmp_path, Execution(), Monitor())
    assert not list(tmp_path.iterdir())


def test_its_options_are_checked(tmp_path):
    (tmp_path / "t.yaml").write_text(TARGET.replace("calibrate", "calibrat") + "opset: 20\n")
    with pytest.raises(RecipeError) as told:
        load_target(str(tmp_path / "t.yaml"))
    for part in ("calibrat: unknown key. Did you mean 'calibrate'?", "opset: unknown key", "calibrate: this key is"):
        assert part in str(told.value)
    (tmp_path / "d.yaml").write_text(DEVICE.replace("red", "green"))
    with pytest.raises(RecipeError, match=r"runtimes\.toy\.colour: Input should be 'red' or 'blue'"):
        load_device(str(tmp_path / "d.yaml"))


def test_an_unknown_format_is_told_with_the_known_ones(tmp_path):
    (tmp_path / "t.yaml").write_text(TARGET.replace("format: toy", "format: toi"))
    with pytest.raises(RecipeError, match=r"t\.yaml:3: format: Unknown export format 'toi'\. Did you mean 'toy'"):
        load_target(str(tmp_path / "t.yaml"))
    (tmp_path / "t.yaml").write_text("name: t\npurpose: p\n")
    with pytest.raises(RecipeError, match="format: this key is required"):
        load_target(str(tmp_path / "t.yaml"))


def test_a_bad_file_is_not_kept(tmp_path, monkeypatch):
    target = ToyTarget(name="toy", purpose="p", format="toy", calibrate=3)
    proof, whole = ProofData.of(dataset(size=8)), ToyExporter.write
    first = ToyExporter().export(subject(), target, proof, tmp_path, {})
    kept = ["model.manifest.json", "model.toy", "model.weights", "proof.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    answers = predictor_for(first).predict(proof.parity(4))["logits"]

    def damaged(self, subject, target, proof, folder):
        written = whole(self, subject, target, proof, folder)
        weights = np.fromfile(folder / "model.weights", np.float32)
        (weights * np.float32(1.5)).tofile(folder / "model.weights")
        return written

    monkeypatch.setattr(ToyExporter, "write", damaged)
    with pytest.raises(ExportRefused, match="parity: outputs differ"):
        ToyExporter().export(subject(), target, proof, tmp_path, {})
    rejected = ["model.toy.rejected", "model.weights.rejected", "refused.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == rejected
    monkeypatch.undo()
    again = ToyExporter().export(subject(), target, proof, tmp_path, {})
    assert again.hashes == first.hashes
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    np.testing.assert_array_equal(predictor_for(again).predict(proof.parity(4))["logits"], answers)


class Watched(Memory):
    """Images that note which labels were looked at; the ones of a split that is off limits stop whoever looks."""

    def __init__(self, count, seed, allowed=True):
        super().__init__(count, seed)
        self.allowed, self.looked = allowed, []

    def images(self, indices):
        assert self.allowed, "images were looked at that an exporter may not see"
        self.looked += self.labels[np.asarray(indices)].tolist()
        return super().images(indices)


def test_it_calibrates_on_training_images_of_every_class_and_is_proven_on_others(tmp_path):
    sets = Watched(70, 1), Watched(20, 2), Watched(20, 3, allowed=False)
    data = replace(dataset(), train=sets[0], validation=sets[1], test=sets[2])
    target = ToyTarget(name="toy", purpose="p", format="toy", calibrate=9)
    ToyExporter().export(subject(), target, ProofData.of(data), tmp_path, {})
    assert np.bincount(sets[0].looked).tolist() == [3, 3, 3]
    assert sorted(sets[1].looked) == sorted(sets[1].labels)
