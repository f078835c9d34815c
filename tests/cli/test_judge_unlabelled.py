"""`edgecr judge` with images that nobody labelled: agreement leads to a verdict, and accuracy appears nowhere."""

import json
import shutil

import numpy as np
import pytest

from tests.cli.colour_files import MEANS, colour_file, images
from tests.cli.test_judge import QUICK_DEVICE, invoke
from tests.workplace import trusted

GATES = ("--gate", "agreement.min=0.97", "--gate", "noise5_agreement.min=0.8", "--gate", "size.ratio=2")


@pytest.fixture(scope="module")
def world(tmp_path_factory, config_folder):
    """A folder of images without class folders, and two files that answer it alike and one that does not."""
    folder = tmp_path_factory.mktemp("unlabelled")
    (folder / "quick.yaml").write_text(QUICK_DEVICE)
    trusted(folder / "quick.yaml")
    (folder / "data").mkdir()
    for number, image in enumerate(sorted(images(folder / "labelled", splits=("",)).rglob("*.png"))):
        shutil.copyfile(image, folder / f"data/{number:02}.png")
    colour_file(folder / "base.onnx")
    colour_file(folder / "good.onnx", scale=1.1)
    colour_file(folder / "bad.onnx", order=np.eye(3))
    return folder


def judge(world, *files, more=()):
    words = ["judge", *(world / file for file in files), "--data", world / "data", "--device", world / "quick.yaml"]
    return invoke(*words, "-q", "-o", world / "judged", *MEANS, *more)


@pytest.fixture(scope="module")
def judged(world):
    """The folder of a judgement of both candidates, and what the command said."""
    code, output = judge(world, "base.onnx", "good.onnx", "bad.onnx", more=GATES)
    assert code == 0, output
    (folder,) = (world / "judged").glob("*-candidates-*")
    return folder, output


def test_agreement_leads_to_a_verdict(judged):
    folder, _ = judged
    good, bad = (json.loads((folder / f"reports/{name}/report.json").read_text()) for name in ("good", "bad"))
    assert (good["verdict"], bad["verdict"]) == ("SHIP", "DON'T SHIP")
    assert {gate["name"]: gate["status"] for gate in good["gates"]} == {
        "agreement": "PASS",
        "noise5_agreement": "PASS",
        "size": "PASS",
    }
    clean = next(row for row in good["accuracy"] if row["condition"] == "clean")
    assert clean["agreement"]["value"] == 1
    assert clean["agreement"]["samples"] == 24
    assert 0 < clean["divergence"]["value"] < 0.1
    assert {row[role] for row in good["accuracy"] for role in ("baseline", "candidate", "delta")} == {None}
    assert next(row for row in bad["accuracy"] if row["condition"] == "clean")["agreement"]["value"] < 0.5
    assert "May ship: good." in (folder / "report.md").read_text()


def test_no_report_speaks_of_accuracy(judged):
    folder, _ = judged
    for file in (*folder.rglob("report.md"), *folder.rglob("report.html")):
        text = file.read_text().lower()
        assert "accuracy" not in text, file
        assert "nan" not in text.split(), file
        assert "agreement" in text, file
    page = (folder / "reports/good/report.md").read_text()
    assert "24 images without labels" in page
    assert "- agreement: **100.0 %**" in page
    assert "· no label, image" in (folder / "reports/good/report.html").read_text()


def test_the_folder_is_judged_again(judged):
    folder, _ = judged
    code, output = invoke("check", folder, "--junit", folder / "gates.xml")
    assert code == 0
    assert "PASS agreement: value 100.0 %" in output
    assert "good: noise5_agreement" in (folder / "gates.xml").read_text()


def test_a_changed_answer_is_not_believed(judged, tmp_path):
    folder = shutil.copytree(judged[0], tmp_path / judged[0].name)
    file = folder / "robustness/noise5/fog.npz"
    file.write_bytes(file.read_bytes()[:-1])
    code, output = invoke("check", folder)
    assert code == 1
    assert "NOT VERIFIED robustness/noise5/fog.npz" in output


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ("clean_accuracy.drop=0.01", "the data has no labels: use agreement;"),
        ("noise5_fog_accuracy.min=0.5", "the data has no labels: use noise5_fog_agreement;"),
        ("agreement.drop=0.01", "drop makes no sense for agreement; use min"),
        ("agreement.min=97", "min is a fraction between 0 and 1"),
    ],
)
def test_gates_that_cannot_be_judged_are_refused(world, gate, words):
    code, message = judge(world, "base.onnx", "good.onnx", more=("--gate", gate))
    assert code == 2
    assert words in message


def test_classes_may_be_named_and_counted_by_the_files_themselves(world, tmp_path):
    (tmp_path / "names.txt").write_text("blue\ngreen\nred\n")
    for file in ("open.onnx", "other.onnx"):
        colour_file(world / file, scale=1 + (file == "other.onnx"))
    options = ("--suite", "clean", "--classes", tmp_path / "names.txt", "--gate", "agreement.min=0.9")
    code, output = judge(world, "open.onnx", "other.onnx", more=options)
    assert code == 0, output
    (folder,) = (world / "judged").glob("other-*")
    assert json.loads((folder / "question.json").read_text())["data"]["classes"] == ["blue", "green", "red"]
    (tmp_path / "names.txt").write_text("blue\ngreen\n")
    code, message = judge(world, "open.onnx", "other.onnx", more=options)
    assert code == 2
    assert "2 classes" in message


def test_a_judgement_without_gates_says_how_to_name_one(world):
    code, output = judge(world, "base.onnx", "good.onnx", more=("--suite", "clean"))
    assert code == 1
    assert "--gate agreement.min=0.97" in output


def test_files_are_compared_on_images_without_labels_and_one_alone_is_refused(world):
    from tests.cli.colour_files import manifest

    for name in ("base", "good"):
        shutil.copyfile(world / f"{name}.onnx", world / f"{name}-told.onnx")
        manifest(world / f"{name}-told.onnx", labels=[])
    files = [world / "base-told.onnx", world / "good-told.onnx"]
    code, output = invoke("robustness", *files, "--data", world / "data", "--suite", "clean", "-q")
    assert code == 0, output
    assert "Agreement, suite clean" in output
    assert "ccuracy" not in output
    code, message = invoke("robustness", files[0], "--data", world / "data", "--suite", "clean", "-q")
    assert code == 2
    assert "give two files, the baseline first" in message
