"""A candidate that fails on some image is no reason to leave the others unjudged."""

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.cli.colour_files import SIZE, colour_file
from tests.cli.test_judge import invoke, judge, judged, measured_at_once, result_of, world

__all__ = ["judged", "measured_at_once", "world"]  # fixtures


def glare_file(path, source):
    """The same answers, but a look-up out of range on an image with a white pixel."""
    model = onnx.load(source)
    one, table = numpy_helper.from_array(np.float32([1.05]), "one"), numpy_helper.from_array(np.zeros(1, "f4"), "table")
    model.graph.initializer.extend([one, table])
    model.graph.output[0].name = "shown"
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["image"], ["brightest"], keepdims=0),
            helper.make_node("Mul", ["brightest", "one"], ["place"]),
            helper.make_node("Cast", ["place"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["nothing"]),
            helper.make_node("Add", ["logits", "nothing"], ["shown"]),
        ]
    )
    onnx.save(model, path)
    return path


@pytest.fixture
def scene(world, tmp_path):
    """A folder of images of which one glares, and a candidate that cannot bear it."""
    shutil.copytree(world / "data", tmp_path / "data")
    glaring(tmp_path / "data/test/red/9.png")
    return tmp_path, glare_file(tmp_path / "glare.onnx", world / "base.onnx")


def glaring(path):
    glare = np.zeros((SIZE, SIZE, 3), np.uint8)
    glare[..., 0] = 255
    Image.fromarray(glare).save(path)


@pytest.mark.parametrize("place", ["red/9.png", "blue/0.png"])
def test_the_others_are_judged_and_its_own_path_is_named(world, scene, place):
    folder, glare = scene
    glaring(folder / "data/test" / place)  # blue/0.png is among those that every file is asked about first
    options = {"data": folder / "data", "output": folder / "judged", "gate": "clean_accuracy.drop=0.01"}
    code, output = judge(world, "base.onnx", glare, "good.onnx", **options)
    assert code == 0, output
    (case,) = (folder / "judged").glob("base-candidates-*")
    good, failed = (result_of(case / "reports" / name) for name in ("good", "glare"))
    assert good["verdict"] == "SHIP"
    assert any(f"{glare} cannot run" in text for text in failed["warnings"])
    assert not any(str(glare) in text for text in good["warnings"])
    assert "files/glare" not in json.dumps(failed["warnings"])
    assert {row["candidate"] for row in failed["accuracy"]} == {None}
    assert all(row["baseline"] for row in failed["accuracy"])
    assert failed["verdict"] == "INCOMPLETE"
    (gate,) = failed["gates"]
    assert f"{glare} cannot run" in gate["text"]
    assert judge(world, "base.onnx", glare, "good.onnx", **options)[0] == 0  # nothing is left to do
    assert result_of(case / "reports" / "good") == good
    (case / "robustness/clean/failed.json").write_text("{}")
    code, output = invoke("check", case)
    assert (code, "NOT VERIFIED robustness/clean/failed.json" in output) == (1, True)


def test_a_single_candidate_that_fails_is_incomplete(world, scene):
    folder, glare = scene
    options = {"data": folder / "data", "output": folder / "judged", "gate": "clean_accuracy.drop=0.01"}
    code, output = judge(world, "base.onnx", glare, **options)
    assert code == 1
    (case,) = (folder / "judged").glob("glare-*")
    assert result_of(case)["verdict"] == "INCOMPLETE"
    code, output = judge(world, glare, "good.onnx", **options)
    assert code == 1
    assert f"{glare} cannot run" in output


def test_a_candidate_that_claims_to_fail_must_have_been_asked(world, scene):
    """A record of a failure that no stage vouches for is no failure."""
    folder, _ = scene
    bad = colour_file(folder / "bad.onnx", order=np.eye(3))
    options = {"output": folder / "judged", "gate": "clean_accuracy.drop=0.01"}
    assert judge(world, "base.onnx", bad, **options)[0] == 1
    (case,) = (folder / "judged").glob("bad-*")
    (case / "robustness/clean/failed.json").write_text('{"bad": "no"}')
    code, output = invoke("check", case)
    assert (code, "does not vouch for robustness/clean/failed.json" in output) == (1, True)
