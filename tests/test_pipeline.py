"""One command from a recipe to a verdict, as a user sees it: real training, a real measurement.

Where a process is killed, stopped or one of two, it is a child; what follows it and what is refused stays in this one.
"""

import json
import os
import shutil
import signal
import threading
import time

import pytest
import yaml

from edgecr.weights import hash_tensors, read_tensors
from tests.workplace import trusted


def only_run(tmp_path, runs="runs"):
    (run,) = (path for path in (tmp_path / runs).iterdir() if path.name != ".steps")
    return run


def tensors(run):
    return {
        file.relative_to(run): hash_tensors(read_tensors(file))
        for file in sorted(run.rglob("tensors.safetensors"))
        if "checkpoint" not in str(file)
    }


STEPS_ALONE = ("--set", "measure.devices=[]", "--set", "robustness.suites=[]")
"""Leaves out the stages that a test of steps need not wait for; steps do not depend on them."""


@pytest.fixture
def finished(mini_run, tmp_path):
    """The run of the mini recipe, in a copy of its folder that the test may write in."""
    shutil.copytree(mini_run, tmp_path, dirs_exist_ok=True)
    return only_run(tmp_path)


@pytest.mark.slow
def test_from_recipe_to_verdict(mini_run):
    assert "SHIP" in (mini_run / "said").read_text()
    run = only_run(mini_run)
    assert {"baseline", "candidate", "report.html", "report.json", "report.md", "recipe.yaml"} <= set(os.listdir(run))
    result = json.loads((run / "report.json").read_text())
    assert result["verdict"] == "SHIP"
    assert {row["condition"] for row in result["accuracy"]} == {
        "clean",
        "gauss",
        "iso",
        "rgb_shift",
        "pixel_dropout",
        "fog",
        "mean",
    }


@pytest.mark.slow
def test_a_finished_run_is_not_made_again(edgecr_here, finished):
    again = edgecr_here("compress", "mini.yaml")
    assert again.returncode == 0, again.stderr
    assert "Already finished" in again.stderr
    assert "Step" not in again.stderr


@pytest.mark.slow
def test_stricter_gates_take_over_the_steps_and_judge_anew(edgecr_here, finished, tmp_path):
    changes = ("--set", "gates.size.ratio=0.1", "--set", "name=strict")
    stricter = edgecr_here("compress", "mini.yaml", *changes, *STEPS_ALONE)
    assert stricter.returncode == 1, stricter.stderr
    assert "DON'T SHIP" in stricter.stdout
    assert stricter.stderr.count("is taken from mini-") == 3
    strict = next(path for path in (tmp_path / "runs").iterdir() if path.name.startswith("strict-"))
    assert tensors(strict) == tensors(finished)
    for command, code, words in (
        (("check", finished), 0, "SHIP"),
        (("check", strict), 1, "DON'T SHIP"),
        (("compare", finished, strict), 0, "Candidates"),
        (("compare", finished, strict, "-o", tmp_path / "both.html"), 0, "Candidates"),
        (("compare", finished, strict, "-o", tmp_path / "both.pdf"), 2, "written as .html or .md"),
    ):
        done = edgecr_here(*command)
        assert done.returncode == code, (command, done.stdout, done.stderr)
        assert words in done.stdout + done.stderr, command
    assert "strict" in (tmp_path / "both.html").read_text()


@pytest.mark.slow
def test_commands_that_go_on_with_a_run(edgecr_here, finished, tmp_path):
    device = ("--device", tmp_path / "quick.yaml")
    trusted(tmp_path / "quick.yaml")
    for command, words in (
        (("report", finished), "report.html"),
        (("profile", finished, *device, "--batch", "2"), "batch 2"),
        (("profile", finished / "export/onnx/candidate/model.onnx", *device), "batch 1"),
        (("robustness", finished, "--images", "10"), "fog"),
        (("export", finished, "--target", "onnx-embedded"), "model.onnx"),
    ):
        done = edgecr_here(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert words in done.stdout + done.stderr, command


@pytest.mark.slow
def test_killed_and_started_again_ends_in_the_same_bits(edgecr, edgecr_here, mini_run, mini_recipe, tmp_path):
    child = edgecr.start("compress", mini_recipe, *STEPS_ALONE)
    for line in child.stderr:
        if "Step 2" in line:  # inside the second training
            time.sleep(0.1)
            os.killpg(child.pid, signal.SIGKILL)
            break
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    resumed = edgecr_here("compress", mini_recipe, *STEPS_ALONE)
    assert resumed.returncode == 0, resumed.stderr
    assert tensors(only_run(tmp_path)) == tensors(only_run(mini_run))


@pytest.mark.slow
def test_two_runs_at_once_train_what_they_share_once(edgecr, edgecr_here, mini_recipe):
    first, lines = edgecr.start("compress", mini_recipe, "--set", "name=first", *STEPS_ALONE), []
    begun = threading.Event()

    def read():
        for line in first.stderr:  # to its end: a full pipe would stop the first run
            lines.append(line)
            if "Step 1" in line:
                begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(60)
    changes = ("--set", "name=second", "--set", "steps.1.distill.epochs=2")
    second = edgecr_here("compress", mini_recipe, *changes, *STEPS_ALONE)
    first.wait(120)
    reader.join()
    errors = "".join(lines)
    assert first.returncode == 0, errors
    assert second.returncode == 0, second.stderr
    assert "Step 1 of 3: train is being made by another run" in second.stderr
    assert "Step 1 of 3: train is taken from first-" in second.stderr
    assert "Step 2 of 3: distill is taken" not in second.stderr


def test_ctrl_c_says_that_nothing_is_lost(edgecr, mini_recipe):
    child = edgecr.start("compress", mini_recipe)
    for line in child.stderr:
        if "Step 1" in line:
            child.send_signal(signal.SIGINT)
            break
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "What a run had finished is kept" in errors
    assert "Traceback" not in errors


def test_two_writers_of_one_run(edgecr, edgecr_here, mini_recipe):
    first = edgecr.start("compress", mini_recipe)
    try:
        for line in first.stderr:
            if "Step 1" in line:
                break
        second = edgecr_here("compress", mini_recipe)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
    assert second.returncode == 1
    assert "Another edgecr process is working on" in second.stderr


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("{model: {arch: 'torchvision:resnet1'}, steps: [{train: {epochs: 1}}]}", 2, "Did you mean"),
        ("model.classes=7", 2, "the data has 10 classes"),
        ("model.weights=nothing.pth", 2, "nothing.pth"),
        ("data={name: folder, root: nowhere, size: 32}", 2, "nowhere"),
        ("export=[old.yaml]", 2, "opset"),
        ("measure.devices=[jetson]", 2, "host"),
    ],
)
def test_impossible_requests_are_refused_before_any_training(edgecr_here, mini_recipe, tmp_path, change, code, words):
    (tmp_path / "old.yaml").write_text("name: old\npurpose: too old\nformat: onnx\nopset: 12\n")
    changes = [change] if "=" in change else [f"{key}={value}" for key, value in yaml.safe_load(change).items()]
    done = edgecr_here("compress", mini_recipe, *(word for each in changes for word in ("--set", each)))
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "Step 1" not in done.stderr


@pytest.mark.parametrize(
    "changes",
    [
        ["model={arch: 'os:system'}", "steps=[{train: {epochs: 1}}]"],
        ["steps=[{train: {epochs: 1}}, {distill: {student: {arch: 'os:system'}}}]"],
    ],
)
def test_a_users_own_code_runs_only_when_allowed(edgecr_here, mini_recipe, tmp_path, changes):
    done = edgecr_here("compress", mini_recipe, *(word for each in changes for word in ("--set", each)))
    assert done.returncode == 2
    assert "os:system is Python code of your own; pass --allow-code" in done.stderr
    assert "Reading data" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_with_code_in_it_is_never_run(edgecr_here, mini_recipe, tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"state_dict": Bomb()}))
    done = edgecr_here("compress", mini_recipe, "--set", "model.weights=bomb.pth")
    assert done.returncode == 2
    assert "bomb.pth" in done.stderr
    assert not (tmp_path / "boom").exists()


def test_a_folder_that_may_not_be_written(edgecr_here, mini_recipe):
    done = edgecr_here("compress", mini_recipe, "--runs", "/proc/nowhere")
    assert done.returncode == 1
    assert "Cannot write" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_jetson_nobody_configured(edgecr_here):
    done = edgecr_here("profile", "--device", "jetson")
    assert done.returncode == 2
    for words in ("edgecr devices add my-jetson --like jetson --host jetson", "~/.ssh/config"):
        assert words in done.stderr
