"""The zoo of networks: its helpers do what its figures rest on."""

import importlib
import time
from pathlib import Path

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are not part of the wheel")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def small(last):
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*body, *last).eval()


@pytest.mark.parametrize(
    "last",
    [
        (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 6)),
        (nn.AdaptiveAvgPool2d(1), nn.Conv2d(32, 6, 1), nn.Flatten()),
        (nn.Conv2d(32, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ],
    ids=["linear", "convolution", "before pooling"],
)
def test_a_network_recognises_its_images_by_far(bench, last):
    networks, module = bench("_networks"), small(last)
    inputs, labels = torch.randn(6, 3, 8, 8), torch.tensor([3, 1, 0, 2, 5, 4])
    networks.calm(module)
    networks.take_statistics(module, inputs)
    networks.recognise(module, inputs, labels)
    best = module(inputs).topk(2)
    assert best.indices[:, 0].equal(labels)
    assert (best.values[:, 0] - best.values[:, 1]).min() > 0.1


def test_statistics_are_those_of_the_inputs(bench):
    module, inputs = small((nn.Flatten(),)), torch.randn(6, 3, 8, 8)
    bench("_networks").take_statistics(module, inputs)
    normalised = module[1](module[0](inputs)).transpose(0, 1).flatten(1)
    assert normalised.mean(1).abs().max() < 1e-5
    assert (normalised.std(1) - 1).abs().max() < 0.01
    assert not module.training


def test_only_computing_uses_up_the_time_of_a_file(bench):
    export = bench("_zoo_export")
    with export.limited(0.2):
        time.sleep(0.3)
    with pytest.raises(export.OutOfTimeError, match="too slow"), export.limited(0.2):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            pass


def test_a_failure_is_told_in_the_table_and_below_it(bench, tmp_path):
    zoo, page = bench("zoo"), tmp_path / "page.md"
    page.write_text(f"before\n{zoo.BEGIN}\nold\n{zoo.END}\nafter\n")
    good = {"fault": "", "runtimes": {"ort": {"max_rel": 2e-6, "cosine": 0.5}, "openvino": {"max_rel": 3e-6}}}
    bad = {"fault": "in openvino: too far", "runtimes": {}}
    whole = {"side": 64, "macs": 4e6, "files": {"onnx": good, "onnx-int8": bad}}
    cut = {"side": 64, "files": {}, "fault": "No channel can be removed."}
    entries = [zoo.Entry("timm:resnet10t", {"whole": whole, "cut": cut})]
    assert entries[0].row()[4:6] == ["3.0e-06", "**no** (onnx-int8)"]
    zoo.write_table(page, entries, 2)
    zoo.write_table(page, entries, 2)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("- `timm:resnet10t`, whole, onnx-int8: in openvino: too far") == 1
    assert text.count("- `timm:resnet10t`, cut: No channel can be removed.") == 1


def test_the_zoo_has_sixty_different_networks_and_more(bench):
    names = bench("zoo").zoo()
    assert len(names) == len(set(names)) >= 60
    assert {name.partition(":")[0] for name in names} == {"torchvision", "timm"}
    assert {*bench("zoo").QUICK} <= {*names}
