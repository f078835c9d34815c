"""The examples in docs/training.md work."""

import re
from pathlib import Path

import pytest
import yaml

from edgecr.core.yaml_text import parse_yaml
from edgecr.methods.finetune import FineTune
from edgecr.methods.train import Train
from edgecr.recipe import checked
from edgecr.training.losses import losses
from edgecr.training.losses.kd import DistillationOptions
from tests.workplace import context, subject

PAGE = Path(__file__).resolve().parents[3] / "docs" / "training.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the docs are not part of the wheel")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.M | re.S)


def test_its_recipe_is_good():
    (text,) = [block for block in blocks("yaml") if "name:" in block]
    prune = checked(parse_yaml(text, "pruned_kd.yaml")).steps[1].method
    assert prune.when.retrain.loss == DistillationOptions()
    for block in blocks("yaml"):
        for step in yaml.safe_load(block)["steps"]:
            if "finetune" in step:
                FineTune.parse(step["finetune"])


def test_its_loss_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(losses, "_items", dict(losses._items))
    (code,) = blocks("python")
    exec(code, {})
    keys = {"epochs": 1, "batch": 32, "precision": "fp32", "loss": {"agreement": {"weight": 2.0}}}
    Train.parse(keys).apply(subject(), context(tmp_path))
    assert Train.parse(keys).build_loss(subject(), context(tmp_path)).identity() == {"loss": "agreement", "weight": 2.0}
