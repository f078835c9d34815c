"""Layers, streams and numbers of threads on the way from the command line to a real agent."""

from __future__ import annotations

import contextlib

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from edgecr.api.sweeping import with_threads
from edgecr.cli import app
from edgecr.core.errors import RequestError
from edgecr.runners.base import Manner, MeasurePlan, runner_for
from tests.runners.tiny_device import quick_device, write_onnx


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """Calls ``edgecr profile`` about two tiny files on a quick device of the user's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    place = tmp_path / "config" / "edgecr" / "devices" / "quick.yaml"
    place.parent.mkdir(parents=True)
    place.write_text(yaml.safe_dump(quick_device().plain()))
    files = [str(write_onnx(tmp_path / name, channels)) for name, channels in (("a.onnx", 8), ("b.onnx", 4))]

    def call(*words: str):
        return CliRunner().invoke(app, ["profile", *files, "--device", "quick", *words], catch_exceptions=False)

    return call


def test_layers_and_streams_are_shown_when_they_are_asked_for(profile) -> None:
    found = profile("--layers", "--streams", "1,2")
    assert found.exit_code == 0, found.output
    assert "Layers of baseline, batch 1" in found.output
    assert "Conv" in found.output
    assert "Streams" in found.output


def test_a_runtime_that_tells_no_layers_is_measured_all_the_same(tmp_path) -> None:
    device = quick_device(runtimes={"openvino": {}})
    files = {"baseline": write_onnx(tmp_path / "a.onnx")}
    plan = MeasurePlan.of(files, [1], "openvino", launches=1, rounds=1, manner=Manner(layers=True))
    result = runner_for(device).measure(plan)
    assert (result.error, result.layers) == (None, ())
    assert any("does not tell the time of its layers" in text for text in result.warnings)


def test_each_number_of_threads_is_a_row(profile) -> None:
    found = profile("--threads", "1,2")
    assert found.exit_code == 0, found.output
    assert "With 2 threads" in found.output
    assert found.output.count("batch") >= 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--quick", "--standard"), "exclude one another"),
        (("--sustained", "1"), "2 minutes to a day"),
        (("--streams", "0"), "--streams 0: give whole numbers"),
        (("--threads", "1", "--output", "x.json"), "--threads makes several"),
    ],
)
def test_wishes_that_contradict_are_refused(profile, words, why: str) -> None:
    with pytest.raises(RequestError, match=why):
        profile(*words)


def test_threads_mean_nothing_where_the_gpu_computes() -> None:
    with pytest.raises(RequestError, match=r"--threads: tensorrt computes on the GPU.* --streams sweeps it"):
        with_threads(quick_device(runtimes={"tensorrt": {}}), "tensorrt", 2)
    with pytest.raises(ValidationError, match="it has no threads to choose"):
        quick_device(runtimes={"tensorrt": {"threads": 2}})


@pytest.mark.parametrize("told", [True, False])
def test_layers_that_a_devices_file_leaves_out_are_not_asked_for(tmp_path, told: bool) -> None:
    device = quick_device(runtimes={"tensorrt": {"layers": told}})
    plan = MeasurePlan.of({"a": write_onnx(tmp_path / "a.onnx")}, [1], "tensorrt", manner=Manner(layers=True))
    with (
        contextlib.nullcontext()
        if told
        else pytest.raises(RequestError, match=r"'layers: false' of runtimes\.tensorrt in devices/quick\.yaml")
    ):
        plan.check(device)


def test_threads_are_those_of_the_runtime_that_is_measured() -> None:
    device = quick_device(runtimes={"ort": {}, "openvino": {}})
    changed = with_threads(device, "ort", 4)
    assert (changed.runtime("ort").threads, changed.runtime("openvino").threads) == (4, 1)
    assert changed.origin == device.origin
