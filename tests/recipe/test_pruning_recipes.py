"""A digits recipe of the pruning families goes the whole way; the stages after its steps are tested elsewhere."""

import json

import pytest

from edgecr.recipe import load_recipe

FAMILIES = ("quick/adasap_digits", "quick/halp_digits", "quick/taylor_digits")


@pytest.mark.parametrize("name", FAMILIES)
def test_families_compress_after_a_baseline_was_trained(name):
    recipe = load_recipe(name)
    assert recipe.baseline_steps == 1
    assert recipe.steps[1].method.compresses


def test_a_preset_gives_way_key_by_key():
    schedule = load_recipe("quick/halp_digits").steps[1].method.when
    assert (schedule.kind, schedule.steps, schedule.retrain.epochs) == ("exponential", 4, 6)
    assert schedule.retrain.momentum == 0.875


@pytest.mark.slow
def test_one_family_goes_the_whole_way(edgecr_here, tmp_path):
    changes = [
        "model.width=0.25",
        "model.blocks=[1, 1, 1]",
        "steps.0.train.epochs=1",
        "steps.1.prune.when.retrain.epochs=1",
        "robustness.suites=[]",
        "measure.devices=[]",
        "gates={}",
    ]
    done = edgecr_here("compress", "quick/taylor_digits", *(part for change in changes for part in ("--set", change)))
    assert done.returncode in (0, 1), done.stderr
    (run,) = (path for path in (tmp_path / "runs").iterdir() if path.name != ".steps")
    report = json.loads((run / "report.json").read_text())
    plan = json.loads((run / "steps" / "01-prune" / "records" / "plan.json").read_text())["values"]
    macs = next(amount for amount in plan["amounts"] if amount["figure"] == "macs")
    assert macs["after"] <= macs["budget"] <= 0.5 * macs["before"]
    assert report["steps"][1]["records"]
    assert [row["macs"] for row in report["models"]] == [macs["before"], macs["after"]]
