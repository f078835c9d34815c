"""`edgecr judge`: exported files of any tool end in a verdict, or are refused with what must be said or done."""

import json
import shutil
import xml.etree.ElementTree as xml

import numpy as np
import pytest
from onnx import TensorProto
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import EdgecrError
from edgecr.runners.agent.runner import AgentRunner
from edgecr.runners.agent.session import measured, payloads_of
from edgecr.runners.base import Measurement
from tests.cli.colour_files import MEANS, SIZE, colour_file, images, manifest
from tests.conftest import QUICK_DEVICE
from tests.workplace import trusted

GATES = ["clean_accuracy.drop=0.01", "size.ratio=2", "latency_p50.ratio=100"]


def invoke(*words):
    """The exit code and the output, or the message of the refusal, in one line."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, EdgecrError):
        return done.exception.exit_code, str(done.exception)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(scope="module")
def world(tmp_path_factory, config_folder):
    """A folder of images, a device that is measured in a moment, and two good files and a bad one."""
    folder = tmp_path_factory.mktemp("judge")
    (folder / "quick.yaml").write_text(QUICK_DEVICE)
    trusted(folder / "quick.yaml")
    images(folder / "data")
    colour_file(folder / "base.onnx")
    colour_file(folder / "good.onnx", scale=2)
    colour_file(folder / "bad.onnx", order=np.eye(3))
    return folder


def judge(world, *files, data="data", means=MEANS, output=None, **options):
    words = ["judge", *(world / file if isinstance(file, str) else file for file in files), "--data", world / data]
    words += ["--device", world / "quick.yaml", "--suite", "clean", "-q", "-o", output or world / "judged", *means]
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            words += [f"--{name}", each]
    return invoke(*words)


@pytest.fixture(scope="module")
def judged(world):
    """One finished judgement that ships; tests copy it before they damage it."""
    code, output = judge(world, "base.onnx", "good.onnx", gate=GATES)
    assert code == 0, output
    (folder,) = (world / "judged").glob("good-*")
    return folder


@pytest.fixture(autouse=True)
def measured_at_once(request, judged, monkeypatch):
    """Gives every judgement but the first one its measurement for other files, in no time."""
    known = Measurement.load(judged / "measure/quick@good.json")

    def measure(_, plan, monitor=None):
        arms = (measured(arm, payload) for arm, payload in zip(plan.arms, payloads_of(plan), strict=True))
        return known.model_copy(update={"arms": tuple(arms)})

    monkeypatch.setattr(AgentRunner, "measure", measure)


@pytest.fixture
def case(judged, tmp_path):
    return shutil.copytree(judged, tmp_path / judged.name)


def result_of(folder):
    return json.loads((folder / "report.json").read_text())


def test_files_from_elsewhere_end_in_a_verdict(judged, world):
    result = result_of(judged)
    assert result["verdict"] == "SHIP"
    (clean,) = result["accuracy"]
    assert clean["baseline"]["value"] == clean["candidate"]["value"] == 1
    assert clean["candidate"]["samples"] == 24  # test/ alone, not train/
    (row,) = result["latency"]
    assert row["arms"].keys() == {"baseline", "candidate"}
    assert row["ratios"]["p50"]["value"] > 0
    assert f"on 24 test images of {world / 'data' / 'test'} in 3 classes, 8x8 pixels" in result["purpose"]
    assert "mean 0.5, 0.5, 0.5" in result["purpose"]
    page = (judged / "report.html").read_text()
    assert "SHIP" in page
    assert "good.onnx" in page


def test_the_folder_is_judged_again_as_a_run_is(case):
    code, output = invoke("check", case)
    assert code == 0
    assert all(words in output for words in ("PASS clean_accuracy", "PASS size", "PASS latency_p50", "SHIP"))
    (case / "report.json").unlink()
    code, output = invoke("report", case)
    assert code == 0
    assert "SHIP" in output
    assert result_of(case)["verdict"] == "SHIP"


def test_what_is_finished_is_not_done_again(world, judged, monkeypatch):
    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(AgentRunner, "measure", refuse)
    before = {path: path.stat().st_mtime_ns for path in judged.rglob("*.npz")}
    assert judge(world, "base.onnx", "good.onnx", gate=GATES)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in judged.rglob("*.npz")} == before


def test_changed_answers_are_made_again(case, world):
    (case / "robustness/clean/clean.npz").write_bytes(b"")
    assert invoke("check", case)[0] == 1
    assert judge(world, "base.onnx", "good.onnx", gate=GATES, output=case.parent)[0] == 0
    assert invoke("check", case)[0] == 0


EVIDENCE = [
    "question.json",
    "environment.json",
    "files/baseline/model.onnx",
    "files/good/model.onnx",
    "measure/quick@good.json",
    "robustness/clean/clean.npz",
    "robustness/clean/robustness.json",
    "robustness/clean/examples-good.json",
    "stages/question.json",
    "stages/file-good.json",
    "stages/measure-quick@good.json",
    "stages/robustness-clean.json",
]


@pytest.mark.parametrize("file", EVIDENCE)
@pytest.mark.parametrize("damage", ["emptied", "deleted", "one byte"])
def test_changed_evidence_never_ships(case, file, damage):
    path = case / file
    content = bytearray(path.read_bytes())
    if damage == "deleted":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "one byte" else b"")
    for command in ("check", "report"):
        code, output = invoke(command, case)
        assert code != 0, output
        assert "SHIP" not in output.replace("DON'T SHIP", ""), output
        if file != "question.json":  # without it the folder is none of a judgement
            assert file in output or file.startswith("stages/"), output
            assert "INCOMPLETE" in output


def test_evidence_is_all_that_lies_in_the_folder(judged):
    files = {path.relative_to(judged).as_posix() for path in judged.rglob("*") if path.is_file()}
    cache = {"events.jsonl", ".lock", "report.json", "report.md", "report.html"}
    assert files - cache == {*EVIDENCE, "stages/file-baseline.json"}


def test_a_worse_candidate_fails_and_the_table_says_which_ships(world, tmp_path):
    code, output = judge(
        world,
        "base.onnx",
        "bad.onnx",
        "good.onnx",
        output=tmp_path,
        gate="clean_accuracy.drop=0.01",
        junit=tmp_path / "j",
    )
    assert code == 0  # one of them may ship
    assert "May ship: good." in output
    (folder,) = tmp_path.glob("base-candidates-*")
    assert result_of(folder / "reports" / "bad")["verdict"] == "DON'T SHIP"
    assert result_of(folder / "reports" / "good")["verdict"] == "SHIP"
    page = (folder / "report.html").read_text()
    for words in ("May ship: good.", "reports/good/report.html", "DON&#x27;T SHIP"):
        assert words in page, words
    assert "May ship: good" in (folder / "report.md").read_text()
    code, output = invoke("check", folder)
    assert (code, "bad: FAIL clean_accuracy" in output) == (0, True)
    (gate,) = xml.parse(tmp_path / "j").getroot().iter("testcase")
    assert gate.get("name") == "good: clean_accuracy: drop ≤ 1.00 points"
    assert gate.find("failure") is None
    assert invoke("check", folder, "--junit", tmp_path / "again")[0] == 0
    assert (tmp_path / "again").read_bytes() == (tmp_path / "j").read_bytes()
    # damage to one candidate's evidence leaves the other one's verdict
    (folder / "files/good/model.onnx").write_bytes(b"")
    code, output = invoke("check", folder)
    assert code == 1
    assert "INCOMPLETE clean_accuracy" in output
    assert judge(world, "base.onnx", "bad.onnx", output=tmp_path, gate="clean_accuracy.drop=0.01")[0] == 1


def test_without_gates_nothing_ships_and_the_page_says_how(world, tmp_path):
    code, output = judge(world, "base.onnx", "good.onnx", output=tmp_path)
    assert code == 1
    assert "INCOMPLETE" in output
    assert "--gate clean_accuracy.drop=0.01" in output


def test_only_as_many_images_as_asked_for(world, tmp_path):
    assert judge(world, "base.onnx", "good.onnx", output=tmp_path, images=5)[0] == 1
    (folder,) = tmp_path.glob("good-*")
    result = result_of(folder)
    assert result["accuracy"][0]["candidate"]["samples"] == 5
    assert "on 5 of 24 test images" in result["purpose"]


def test_weights_beside_the_file_are_part_of_it(world, tmp_path):
    base = colour_file(tmp_path / "x" / "base.onnx", beside="base.weights")
    assert judge(world, base, "good.onnx", output=tmp_path, gate="size.ratio=9")[0] == 0
    (folder,) = tmp_path.glob("good-*")
    size = sum(path.stat().st_size for path in (tmp_path / "x").iterdir())
    assert result_of(folder)["models"][0]["size_bytes"] == size
    (folder / "files/baseline/base.weights").write_bytes(b"0" * 36)
    code, output = invoke("check", folder)
    assert code == 1
    assert "NOT VERIFIED files/baseline/base.weights" in output


@pytest.mark.parametrize("fixed", [(4, "n"), ("n", 4), (4, 4)])
def test_files_with_a_fixed_batch_are_asked_and_measured_batch_by_batch(world, tmp_path, fixed):
    base = colour_file(tmp_path / "base.onnx", batch=fixed[0])
    other = colour_file(tmp_path / "other.onnx", batch=fixed[1], scale=3)
    assert judge(world, base, other, output=tmp_path, gate="clean_accuracy.drop=0.01", images=7)[0] == 0
    (folder,) = tmp_path.glob("other-*")
    result = result_of(folder)
    assert [row["batch"] for row in result["latency"]] == [4]
    assert result["accuracy"][0]["candidate"] == result["accuracy"][0]["baseline"]
    assert result["accuracy"][0]["candidate"]["value"] == 1


def test_files_that_scale_pixels_themselves_need_no_mean(world, tmp_path):
    pixels = {"shape": (SIZE, SIZE, 3), "dtype": TensorProto.UINT8}
    base, other = (colour_file(tmp_path / f"{scale}.onnx", scale=scale, **pixels) for scale in (1, 2))
    assert judge(world, base, other, means=(), output=tmp_path, gate="clean_accuracy.min=1")[0] == 0
    code, output = judge(world, base, other, output=tmp_path)
    assert code == 2
    assert "Leave --mean and --std out" in output


def test_probabilities_are_not_squashed_twice(world, tmp_path):
    shares = colour_file(tmp_path / "shares.onnx", softmax=True)
    assert judge(world, "base.onnx", shares, output=tmp_path)[0] == 1
    (folder,) = tmp_path.glob("shares-*")
    with np.load(folder / "robustness/clean/clean.npz") as answers:
        assert np.array_equal(answers["baseline.choices"], answers["shares.choices"])
        assert np.allclose(answers["baseline.probabilities"], answers["shares.probabilities"], atol=1e-6)


def test_files_that_scale_by_batch_are_asked_image_by_image(world, tmp_path, monkeypatch):
    from edgecr.predictors.onnx_predictor import OnnxPredictor

    seen, run = {}, OnnxPredictor._run

    def counted(self, batch):
        seen.setdefault(self._path.parent.name, set()).add(len(batch))
        return run(self, batch)

    monkeypatch.setattr(OnnxPredictor, "_run", counted)
    dynamic = colour_file(tmp_path / "dynamic.onnx", quantised=True)
    _, output = judge(world, "base.onnx", dynamic, output=tmp_path)
    assert seen["dynamic"] == {1}
    assert max(seen["baseline"]) == 24
    assert "asked about one image at a time" in output


# The question how images become the input


def test_a_manifest_answers_how_images_are_scaled(world, tmp_path):
    base = colour_file(tmp_path / "base.onnx", shape=(3, "h", "w"))
    other = colour_file(tmp_path / "other.onnx", shape=(3, "h", "w"), scale=2)
    for file in (base, other):
        manifest(file)
    assert judge(world, base, other, means=(), output=tmp_path, gate="clean_accuracy.min=1")[0] == 0
    (folder,) = tmp_path.glob("other-*")
    assert "from the manifest" in result_of(folder)["purpose"]


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ((), "How does {base} want its images scaled? It has no manifest beside it"),
        (("--mean", "0.5,0.5,0.5"), "How does {base} want its images scaled?"),
        (("--mean", "0.5", "--std", "0.5,0.5,0.5"), "--mean 0.5: give three numbers"),
        (("--mean", "0,0,nan", "--std", "1,1,1"), "give three numbers"),
        (("--mean", "0,0,0", "--std", "1,0,1"), "--std 1,0,1: give three numbers"),
        (("--mean", "127.5,127.5,127.5", "--std", "127.5,127.5,127.5"), "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"),
        ((*MEANS, "--size", "8x8x8"), "--size 8x8x8: give the side"),
        ((*MEANS, "--size", "0"), "--size 0: give the side"),
        ((*MEANS, "--size", "16"), "different sizes: {base} takes 8x8, --size says 16x16"),
        ((*MEANS, "--classes", "nowhere.txt"), "nowhere.txt does not exist"),
    ],
)
def test_a_question_that_nobody_answered_is_refused(world, tmp_path, means, words):
    code, output = judge(world, "base.onnx", "good.onnx", means=means, output=tmp_path / "judged")
    assert code == 2
    assert words.format(base=world / "base.onnx") in output
    assert not (tmp_path / "judged").exists()


def test_a_file_that_leaves_the_size_open_asks_for_it(world, tmp_path):
    base = colour_file(tmp_path / "base.onnx", shape=(3, "h", "w"))
    other = colour_file(tmp_path / "other.onnx", shape=(3, "h", "w"), scale=2)
    code, output = judge(world, base, other, output=tmp_path)
    assert code == 2
    assert "How large are the images" in output
    assert judge(world, base, other, output=tmp_path, size="8X8", gate="clean_accuracy.min=1")[0] == 0


@pytest.mark.parametrize(
    ("first", "second", "means", "words"),
    [
        ({}, {"mean": [0.4] * 3}, (), "say different things: mean"),
        ({}, {"size": [16, 16]}, (), "The images have different sizes"),
        ({}, {"labels": ["red", "green", "blue"]}, (), "name different classes: class 0 is 'blue' in one, 'red' in"),
        ({}, {}, ("--mean", "0,0,0", "--std", "1,1,1"), "in its manifest or its notes, the options say 0,0,0"),
        ({}, None, (), "If it wants them like base.onnx: --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5."),
        ({"labels": ["cat", "dog", "owl"]}, None, MEANS, "holds classes that the files do not know: blue, green, red"),
        ({"size": None}, {}, (), "manifest"),
        ({"embedded": True}, {}, (), "takes float32 of shape (any, 3, 8, 8) NCHW"),
    ],
)
def test_manifests_that_contradict_are_refused(world, tmp_path, first, second, means, words):
    base, other = colour_file(tmp_path / "base.onnx"), colour_file(tmp_path / "other.onnx", scale=2)
    manifest(base, **first)
    if second is not None:
        manifest(other, **second)
    code, output = judge(world, base, other, means=means, output=tmp_path / "judged")
    assert code == 2
    assert words in output


def test_logits_are_found_among_several_outputs(world, tmp_path):
    more = colour_file(tmp_path / "more.onnx", scale=2, outputs=2)
    assert judge(world, "base.onnx", more, output=tmp_path, gate="clean_accuracy.min=1")[0] == 0


# Files that cannot be compared


def emptied(path):
    path.write_bytes(b"")
    return path


def no_onnx(path):
    path.write_text("no onnx")
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: colour_file(path, order=np.eye(3)[:, :2]), "answers 3 classes, {path} answers 2"),
        (lambda path: colour_file(path, shape=(3, 16, 16)), "different sizes"),
        (
            lambda path: colour_file(path, shape=(1, 8, 8), order=np.ones((1, 3))),
            "takes float32 of shape (any, 1, 8, 8)",
        ),
        (lambda path: colour_file(path, shape=(8, 8, 3)), "takes float32 of shape (any, 8, 8, 3) NHWC"),
        (lambda path: colour_file(path, dtype=TensorProto.FLOAT16), "takes float16"),
        (lambda path: colour_file(path, inputs=2), "2 inputs (image, other1)"),
        (lambda path: colour_file(path, outputs=2, softmax=True), "2 outputs (shares, flat)"),
        (no_onnx, "{path} is not an ONNX file"),
        (lambda path: path, "{path} does not exist"),
        (lambda path: path.parent, "is a folder"),
        (lambda path: colour_file(path), "are the same file"),
        (lambda path: colour_file(path, beside="w").with_name("w").unlink() or path, "which is missing there"),
        (emptied, "{path} holds no ONNX graph"),
    ],
)
def test_files_that_cannot_be_compared_are_refused(world, tmp_path, make, words):
    path = make(tmp_path / "other.onnx")
    code, output = judge(world, "base.onnx", path, output=tmp_path / "judged")
    assert code == 2, output
    assert words.format(path=path) in output
    assert not (tmp_path / "judged").exists()


def test_different_fixed_batches_are_refused(world, tmp_path):
    base, other = (colour_file(tmp_path / f"{batch}.onnx", batch=batch) for batch in (2, 4))
    code, output = judge(world, base, other, output=tmp_path)
    assert code == 2
    assert "fixed to different batch sizes" in output


def test_candidates_of_one_name_are_told_apart(world, tmp_path):
    files = [colour_file(tmp_path / folder / "model.onnx", scale=scale) for folder, scale in (("a", 2), ("b", 3))]
    assert judge(world, "base.onnx", *files, output=tmp_path, gate="clean_accuracy.min=1")[0] == 0
    (folder,) = tmp_path.glob("base-candidates-*")
    assert {path.name for path in (folder / "reports").iterdir()} == {"a-model", "b-model"}


def test_a_file_may_be_called_baseline(world, tmp_path):
    file = colour_file(tmp_path / "baseline.onnx", scale=5)
    assert judge(world, "base.onnx", file, output=tmp_path / "j", gate="clean_accuracy.min=1")[0] == 0


# Data


def test_data_of_other_classes_is_refused(world, tmp_path):
    images(tmp_path / "two", classes=("blue", "red"))
    code, output = judge(world, "base.onnx", "good.onnx", data=tmp_path / "two", output=tmp_path / "judged")
    assert code == 2
    assert "answer 3 classes" in output
    assert "--classes FILE" in output
    images(tmp_path / "other", splits=("train",), classes=("blue", "green", "red"))
    images(tmp_path / "other", splits=("test",), classes=("blue", "cyan", "red"))
    code, output = judge(world, "base.onnx", "good.onnx", data=tmp_path / "other", output=tmp_path / "judged")
    assert code == 2
    assert "the order of the outputs is not known" in output


def test_class_names_say_what_the_outputs_mean(world, tmp_path):
    images(tmp_path / "two", classes=("blue", "red"))
    names = tmp_path / "names.txt"
    names.write_text("red\ngreen\nblue\n\n")  # this file answers with the red channel first
    base, other = (colour_file(tmp_path / f"{scale}.onnx", order=np.eye(3), scale=scale) for scale in (1, 2))
    code, output = judge(
        world, base, other, data=tmp_path / "two", output=tmp_path, classes=names, gate="clean_accuracy.min=1"
    )
    assert code == 0, output
    assert "1 of 3 classes have no test image (green)" in output
    for text, words in (("red\nred\n", "names 'red' twice"), ("", "is empty"), ("red\nblue\n", "has 2 (red, blue)")):
        names.write_text(text)
        code, output = judge(world, base, other, data=tmp_path / "two", output=tmp_path, classes=names)
        assert code == 2
        assert words in output


@pytest.mark.parametrize(("splits", "used"), [(("test",), "test"), (("train", "val"), "val"), (("",), "")])
def test_the_images_that_no_training_has_seen(world, tmp_path, splits, used):
    images(tmp_path / "data", splits=splits, each=2)
    code, _ = judge(
        world, "base.onnx", "good.onnx", data=tmp_path / "data", output=tmp_path, gate="clean_accuracy.min=1"
    )
    assert code == 0
    (folder,) = tmp_path.glob("good-*")
    assert f"on 6 test images of {tmp_path / 'data' / used} in" in result_of(folder)["purpose"]


@pytest.mark.parametrize(("splits", "words"), [(("train",), "no test images"), ((), "does not exist")])
def test_a_folder_without_test_images_is_refused(world, tmp_path, splits, words):
    images(tmp_path / "data", splits=splits)
    code, output = judge(world, "base.onnx", "good.onnx", data=tmp_path / "data", output=tmp_path / "judged")
    assert code == 2
    assert words in output


# Names and gates


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gate": "clean_accuracy"}, "write NAME.KEY=VALUE"),
        ({"gate": "clean_acuracy.drop=0.1"}, "Did you mean 'clean_accuracy'"),
        ({"gate": "clean_accuracy.dorp=0.1"}, "there is no such key; known: drop"),
        ({"gate": "clean_accuracy.drop=lots"}, "--gate clean_accuracy.drop: Input should be a valid number"),
        ({"gate": ["size.max=1", "size.max=2"]}, "was given before"),
        ({"gate": "clean_accuracy.ratio=1"}, "ratio makes no sense for clean_accuracy"),
        ({"gate": "noise5_accuracy.drop=0.1"}, "needs its suite"),
        ({"gate": "macs.ratio=0.5"}, "nobody counts it in files from elsewhere"),
        ({"gate": ["latency_p50.ratio=1", "latency_p50.device=tx2"]}, "measured are quick. Add --device"),
        ({"gate": ["latency_p50.ratio=1", "latency_p50.batch=2"]}, "measured at batch 1"),
        ({"gate": ["memory.max=9", "memory.confidence=0.9"]}, "memory: its max has no interval"),
        ({"suite": "nosie5"}, "Did you mean 'noise5'"),
        ({"device": "cpuu"}, "Unknown device"),
    ],
)
def test_unknown_names_are_refused(world, tmp_path, options, words):
    code, output = judge(world, "base.onnx", "good.onnx", output=tmp_path / "judged", **options)
    assert code == 2
    assert words in output
    assert not (tmp_path / "judged").exists()


def test_a_refusal_is_told_to_the_build_server(world, tmp_path):
    junit = tmp_path / "junit.xml"
    assert judge(world, "base.onnx", "base.onnx", output=tmp_path, junit=junit)[0] == 2
    assert "are the same file" in junit.read_text()
