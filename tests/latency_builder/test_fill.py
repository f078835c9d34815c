"""Filling a table for a model, and the commands that do it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import EdgecrError
from edgecr.core.files import read_json, write_json
from edgecr.latency import LatencyTable, Machine
from edgecr.latency_builder import builder as latency_table
from edgecr.latency_builder import fill as tables
from edgecr.latency_builder.fill import slimmed
from edgecr.models import architecture
from edgecr.subject import Subject
from edgecr.surgery.planning.layers import configurations
from edgecr.surgery.planning.widths import Limits
from tests.workplace import trusted

DEVICE = """\
name: quick
purpose: this machine, for tests
kind: cpu
transport: {kind: local}
align: 8
"""
TINY = ("resnet20", "--set", "width=0.25", "--set", "blocks=[1, 1, 1]", "--size", "16")


@pytest.fixture
def device(tmp_path, monkeypatch):
    short = {
        "launches": 1,
        "rounds": 1,
        "round_s": 0.0005,
        "least_rounds": 1,
        "warmup": {"window_s": 0.0005, "max_s": 0.001},
    }
    monkeypatch.setattr(latency_table, "LAYER_PROTOCOL", short)
    monkeypatch.setattr(latency_table, "MODEL_PROTOCOL", short)
    monkeypatch.setattr(tables, "SLIMMED", (0.5,))
    monkeypatch.chdir(tmp_path)
    Path("quick.yaml").write_text(DEVICE)
    return str(trusted(Path("quick.yaml")))


def call(*arguments):
    result = CliRunner().invoke(app, ["latency-table", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, (EdgecrError, SystemExit)):
        raise result.exception
    return result


def build(device, *more):
    return call("build", *TINY, "--device", device, "-q", *more)


def test_slimmed_models_are_smaller_by_the_fractions():
    subject = Subject.create(architecture({"arch": "resnet20"}), 10, (16, 16), seed=0)
    sizes = [
        sum(p.numel() for p in one.module.parameters())
        for one in slimmed(subject, "r", Limits("off"), (0.25, 0.5)).values()
    ]
    whole = sum(p.numel() for p in subject.module.parameters())
    assert whole > sizes[0] > sizes[1]
    assert abs(sizes[1] / whole - 0.25) < 0.02


def test_build_show_predict(device):
    built = build(device)
    assert built.exit_code == 0, built.exception
    assert "latency/quick-ort-t1.json" in built.output
    assert "predicted" in built.output
    table = LatencyTable.load(Path("latency/quick-ort-t1.json"))
    assert len(table.calibration.evidence) == 2
    declared = {"arch": "resnet20", "width": 0.25, "blocks": [1, 1, 1]}
    subject = Subject.create(architecture(declared), 10, (16, 16), seed=0)
    assert table.missing(configurations(subject.module, subject.input_shape)) == []
    shown = call("show", "--device", device, "--layers")
    assert shown.exit_code == 0
    assert all(key in shown.output for key in table.entries)
    assert "ms" in call("predict", *TINY, "--device", device).output
    again = build(device, "--no-check")
    assert "Measured 0 layers" in again.output


def refused(result, *words):
    assert isinstance(result.exception, EdgecrError), result.output
    assert result.exception.exit_code == 2
    assert all(word in str(result.exception) for word in words), str(result.exception)


def test_wrong_requests_are_refused(device):
    refused(call("show", "--device", device), "does not exist")
    refused(call("build", "resnet2", "--device", device), "Did you mean")
    refused(build(device, "--clock", "sun"), "clock")
    refused(build("nowhere"), "nowhere")
    refused(build(device, "--runtime", "openvino"), "openvino")


def test_a_table_that_is_wrong_or_not_enough_is_refused(device):
    path = Path("latency/quick-ort-t1.json")
    assert build(device, "--no-check", "--align", "8").exit_code == 0
    refused(call("predict", "resnet56", "--device", device), "no entry for", "latency-table build")
    Path("two.yaml").write_text(DEVICE.replace("name: quick", "name: two") + "runtimes: {ort: {threads: 2}}\n")
    trusted("two.yaml")
    refused(call("predict", *TINY, "--device", "two.yaml", "--table", path), "threads is 1 there, 2 here")
    content = read_json(path)
    content["entries"].popitem()
    write_json(path, content)
    refused(call("predict", *TINY, "--device", device), "hash")
    refused(build(device), "hash")


def test_a_table_is_shown_and_taken_for_the_files_that_it_is_of_only(device):
    machine = Machine(device="quick", processor="p", runtime="ort", version="1", threads=1, files="onnx-int8")
    of_integers = Path("latency/quick-ort-t1-onnx-int8.json")
    LatencyTable(machine=machine, clock="cpu").save(of_integers)
    listed = call("list").output
    assert "quick-ort-t1-onnx-int8.json" in listed
    assert "files onnx-int8" in listed
    command = "edgecr latency-table build MODEL --device quick"
    refused(call("show", "--device", device), "latency/quick-ort-t1.json does not exist", f"`{command}`")
    asked = ("--device", device, "--target", "onnx-fp16", "--table", of_integers)
    refused(call("show", *asked), "files is 'onnx-int8' there, 'onnx-fp16' here", f"`{command} --target onnx-fp16`")
    refused(call("predict", *TINY, *asked), "files is 'onnx-int8' there")
    assert "No tables in nowhere" in call("list", "nowhere").output
