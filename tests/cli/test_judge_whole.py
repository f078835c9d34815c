"""`edgecr judge` in processes of its own: without torch, and on networks that other tools exported."""

import subprocess
import sys

import pytest

from tests.cli.colour_files import MEANS, images
from tests.cli.test_judge import result_of, world
from tests.conftest import CommandLine

__all__ = ["world"]  # a fixture


@pytest.mark.slow
def test_judging_imports_no_torch(world, tmp_path):
    words = ["judge", "base.onnx", "good.onnx", "--data", "data", "--device", "quick.yaml", "--images", "4", "-q"]
    words += [*MEANS, "--gate", "clean_accuracy.drop=0.01", "-o", str(tmp_path)]
    code = (
        f"import sys\nfrom typer.testing import CliRunner\nfrom edgecr.cli import app\n"
        f"done = CliRunner().invoke(app, {words!r})\n"
        "assert done.exit_code == 0, (done.output, done.exception)\n"
        "assert 'albumentations' in sys.modules\n"
        "assert 'torch' not in sys.modules"
    )
    env = CommandLine(world).environment
    done = subprocess.run([sys.executable, "-c", code], cwd=world, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = tmp_path.glob("good-*")
    assert {row["condition"] for row in result_of(folder)["accuracy"]} >= {"clean", "fog", "mean"}
    assert result_of(folder)["examples"]


@pytest.mark.slow
def test_a_network_of_torchvision_and_its_quantised_sibling(world, tmp_path):
    """Neither file was made by EdgeCR: torch exports the one, ONNX Runtime quantises the other."""
    import torch
    import torchvision
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v2(weights=None, num_classes=10).eval()
    base, sibling = tmp_path / "mobilenet_v2.onnx", tmp_path / "mobilenet_v2.int8.onnx"
    image, batch = torch.zeros(2, 3, 64, 64), {0: torch.export.Dim("batch")}
    torch.onnx.export(network, (image,), base, dynamo=True, dynamic_shapes={"x": batch}, verbose=False)
    quant_pre_process(str(base), str(tmp_path / "prepared.onnx"))
    quantize_dynamic(tmp_path / "prepared.onnx", sibling)
    names = [f"class{number}" for number in range(10)]
    images(tmp_path / "data", splits=("test",), classes=names, each=3)
    gates = ["size.ratio=0.5"]
    words = ["judge", base, sibling, "--data", tmp_path / "data", "--device", world / "quick.yaml", "-q", *MEANS]
    done = CommandLine(tmp_path)(*words, *(word for gate in gates for word in ("--gate", gate)))
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "judged").glob("mobilenet_v2.int8-*")
    result = result_of(folder)
    assert result["verdict"] == "SHIP"
    before, after = result["models"]
    assert before["size_bytes"] == base.stat().st_size + base.with_name("mobilenet_v2.onnx.data").stat().st_size
    assert after["size_bytes"] == sibling.stat().st_size < before["size_bytes"] / 2
    assert {row["condition"] for row in result["accuracy"]} >= {"clean", "fog", "mean"}
    assert result["latency"][0]["arms"].keys() == {"baseline", "candidate"}
    assert any("asked about one image at a time" in text for text in result["warnings"])
    assert any("not shown to be above chance" in text for text in result["warnings"])  # nobody has trained it
    assert len(result["examples"]) == 15
