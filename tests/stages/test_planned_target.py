"""The export target that a pruning plans for: part of the step's key, and refused early where it cannot be measured."""

from __future__ import annotations

import pytest

from edgecr.core.errors import NotConfigured, RequestError
from edgecr.core.progress import Monitor
from edgecr.exporters.onnx.declaration import OnnxTarget
from edgecr.pipeline import Work, _refuse_early
from edgecr.recipe import load_recipe
from edgecr.run import Run
from edgecr.stages.step_store import StepStore
from edgecr.training.context import Execution

RECIPE = """
name: planned
model: {arch: resnet20, width: 0.25, blocks: [1, 1, 1]}
data: {name: digits}
steps:
  - train: {epochs: 1}
  - prune: {budget: {latency: 0.5}, device: cpu-openvino, target: TARGET}
"""


def planned(folder, target):
    (folder / "r.yaml").write_text(RECIPE.replace("TARGET", str(target)))
    return load_recipe(str(folder / "r.yaml"))


def test_files_that_cannot_be_measured_on_the_device_are_refused_early(tmp_path, monkeypatch):
    _refuse_early(planned(tmp_path, "onnx-int8"))
    with pytest.raises(RequestError, match="No latency table can be built for export target 'tensorrt-jetpack6-int8'"):
        _refuse_early(planned(tmp_path, "tensorrt-jetpack6-int8"))
    monkeypatch.setattr(OnnxTarget, "runtimes", ("ort",))
    with pytest.raises(NotConfigured, match="'cpu-openvino' declares no runtime 'ort'"):
        _refuse_early(planned(tmp_path, "onnx-int8"))


def test_the_declaration_of_the_target_is_in_the_key_of_the_step(tmp_path, monkeypatch):
    own = tmp_path / "own.yaml"
    own.write_text("name: own\npurpose: mine\nformat: onnx\nprecision: int8\n")
    recipe = planned(tmp_path, own)
    work = Work(
        recipe, Run(tmp_path / "r"), recipe.data.load(), StepStore.beside(tmp_path, Execution()), Execution(), Monitor()
    )
    monkeypatch.setattr(Work, "before", lambda *_: "the same model")
    before, train = work.inputs(1), work.inputs(0)
    own.write_text(own.read_text() + "quantise: {per_channel: false}\n")
    assert work.inputs(1) != before
    assert work.inputs(0) == train
