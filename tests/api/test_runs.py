"""`edgecr.compress` and `edgecr.check`: the same runs as the commands make and judge."""

import shutil
from pathlib import Path

import pytest
import yaml

import edgecr
from edgecr.core.progress import Monitor

SMALLEST = {"name": "x", "model": {"arch": "resnet20"}, "data": {"name": "digits"}, "steps": [{"prune": {}}]}


@pytest.mark.slow
def test_a_mapping_is_the_same_run_as_its_file(small_run, monkeypatch):
    monkeypatch.chdir(small_run.parent.parent)  # the git checkout is part of the environment
    recipe = yaml.safe_load((small_run.parent.parent / "small.yaml").read_text())
    recipe["measure"]["devices"] = [Path(recipe["measure"]["devices"][0])]  # paths are text there
    told = []

    class Listener(Monitor):
        def say(self, text):
            told.append(text)

    run, report = edgecr.compress(recipe, runs=small_run.parent, monitor=Listener())
    assert run.folder == small_run
    assert any("Already finished" in text for text in told)
    assert report.verdict.value == "SHIP"
    assert edgecr.check(run) == edgecr.check(small_run) == edgecr.check(runs=small_run.parent) == report
    assert isinstance(report, edgecr.Report)


@pytest.mark.slow
def test_check_judges_anew_and_writes_for_a_build_server(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / small_run.name)
    (run / "candidate" / "tensors.safetensors").write_bytes(b"other")
    report = edgecr.check(run, junit=tmp_path / "gates.xml")
    assert report.verdict.value == "INCOMPLETE"
    assert report.unverified
    assert "INCOMPLETE" in (tmp_path / "gates.xml").read_text()
    with pytest.raises(edgecr.EdgecrError):
        edgecr.check(tmp_path / "nowhere", junit=tmp_path / "gates.xml")
    assert "could not be judged" in (tmp_path / "gates.xml").read_text()


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("quickstat", {}, "Did you mean 'quickstart'"),
        (SMALLEST, {}, "give exactly one of sparsity"),
        (SMALLEST | {"sed": 1}, {}, "sed: unknown key. Did you mean 'seed'"),
        (SMALLEST, {"overrides": ["seed=1"]}, "takes no overrides"),
        (SMALLEST | {"seed": object()}, {}, "may hold text, numbers"),
        ("quickstart", {"devices": ["abacus"]}, "Unknown device 'abacus'"),
        ("quickstart", {"overrides": ["seed"]}, "KEY.PATH=VALUE"),
    ],
)
def test_mistakes_are_told_as_the_command_tells_them(recipe, options, message, tmp_path):
    with pytest.raises(edgecr.EdgecrError, match=message) as raised:
        edgecr.compress(recipe, runs=tmp_path, **options)
    assert raised.value.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_a_mapping_is_not_changed(tmp_path):
    recipe = {"name": "x", "steps": ["prune"]}
    with pytest.raises(edgecr.EdgecrError):
        edgecr.compress(recipe, runs=tmp_path)
    assert recipe == {"name": "x", "steps": ["prune"]}


def test_a_run_that_is_none_is_refused(tmp_path):
    with pytest.raises(edgecr.EdgecrError, match="is not a run folder"):
        edgecr.check(tmp_path)
    with pytest.raises(edgecr.EdgecrError, match="There is no run"):
        edgecr.check(runs=tmp_path)
