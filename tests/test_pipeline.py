"""One command from a recipe to a verdict, as a user sees it: child processes, real training, a real measurement."""

import json
import os
import signal
import threading
import time

import pytest
import yaml

from edgecr.weights import hash_tensors, read_tensors


def only_run(tmp_path, runs="runs"):
    (run,) = (path for path in (tmp_path / runs).iterdir() if path.name != ".steps")
    return run


def tensors(run):
    return {
        file.relative_to(run): hash_tensors(read_tensors(file))
        for file in sorted(run.rglob("tensors.safetensors"))
        if "checkpoint" not in str(file)
    }


@pytest.mark.slow
def test_from_recipe_to_verdict_and_everything_after(edgecr, mini_recipe, tmp_path):
    done = edgecr("compress", mini_recipe)
    assert done.returncode == 0, done.stderr
    assert "SHIP" in done.stdout
    run = only_run(tmp_path)
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

    again = edgecr("compress", mini_recipe)
    assert again.returncode == 0
    assert "finished before" in again.stderr
    assert "Step" not in again.stderr

    stricter = edgecr("compress", mini_recipe, "--set", "gates.size.ratio=0.1", "--set", "name=strict")
    assert stricter.returncode == 1
    assert "DON'T SHIP" in stricter.stdout
    assert stricter.stderr.count("is taken from mini-") == 3

    strict = next(path for path in (tmp_path / "runs").iterdir() if path.name.startswith("strict-"))
    assert tensors(strict) == tensors(run)
    for command, code, words in (
        (("check", run), 0, "SHIP"),
        (("check", strict), 1, "DON'T SHIP"),
        (("compare", run, strict), 0, "Candidates"),
        (("compare", run, strict, "-o", tmp_path / "both.html"), 0, "Candidates"),
        (("compare", run, strict, "-o", tmp_path / "both.pdf"), 2, "written as .html or .md"),
        (("report", run), 0, "report.html"),
        (("profile", run, "--device", tmp_path / "quick.yaml", "--batch", "2"), 0, "batch 2"),
        (("profile", run / "export/onnx/candidate/model.onnx", "--device", tmp_path / "quick.yaml"), 0, "batch 1"),
        (("robustness", run, "--images", "10"), 0, "fog"),
        (("export", run, "--target", "onnx-embedded"), 0, "model.onnx"),
    ):
        done = edgecr(*command)
        assert done.returncode == code, (command, done.stdout, done.stderr)
        assert words in done.stdout + done.stderr, command
    assert "strict" in (tmp_path / "both.html").read_text()


@pytest.mark.slow
def test_killed_and_started_again_ends_in_the_same_bits(edgecr, mini_recipe, tmp_path):
    assert edgecr("compress", mini_recipe, "--runs", tmp_path / "whole").returncode == 0
    whole = only_run(tmp_path, "whole")
    child = edgecr.start("compress", mini_recipe)
    for line in child.stderr:
        if "Step 2" in line:  # inside the second training
            time.sleep(0.5)
            os.killpg(child.pid, signal.SIGKILL)
            break
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert edgecr("compress", mini_recipe).returncode == 0
    assert tensors(only_run(tmp_path)) == tensors(whole)


@pytest.mark.slow
def test_two_runs_at_once_train_what_they_share_once(edgecr, mini_recipe, tmp_path):
    first, lines = edgecr.start("compress", mini_recipe, "--set", "name=first"), []
    begun = threading.Event()

    def read():
        for line in first.stderr:  # to its end: a full pipe would stop the first run
            lines.append(line)
            if "Step 1" in line:
                begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(60)
    second = edgecr("compress", mini_recipe, "--set", "name=second", "--set", "steps.1.distill.epochs=2")
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
    assert "Nothing is lost" in errors
    assert "Traceback" not in errors


def test_two_writers_of_one_run(edgecr, mini_recipe):
    first = edgecr.start("compress", mini_recipe)
    try:
        for line in first.stderr:
            if "Step 1" in line:
                break
        second = edgecr("compress", mini_recipe)
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
def test_impossible_requests_are_refused_before_any_training(edgecr, mini_recipe, tmp_path, change, code, words):
    (tmp_path / "old.yaml").write_text("name: old\npurpose: too old\nformat: onnx\nopset: 13\n")
    changes = [change] if "=" in change else [f"{key}={value}" for key, value in yaml.safe_load(change).items()]
    done = edgecr("compress", mini_recipe, *(word for each in changes for word in ("--set", each)))
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
def test_a_users_own_code_runs_only_when_allowed(edgecr, mini_recipe, tmp_path, changes):
    done = edgecr("compress", mini_recipe, *(word for each in changes for word in ("--set", each)))
    assert done.returncode == 2
    assert "os:system is Python code of your own; pass --allow-code" in done.stderr
    assert "Reading data" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_with_code_in_it_is_never_run(edgecr, mini_recipe, tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"state_dict": Bomb()}))
    done = edgecr("compress", mini_recipe, "--set", "model.weights=bomb.pth")
    assert done.returncode == 2
    assert "bomb.pth" in done.stderr
    assert not (tmp_path / "boom").exists()


def test_a_folder_that_may_not_be_written(edgecr, mini_recipe):
    done = edgecr("compress", mini_recipe, "--runs", "/proc/nowhere")
    assert done.returncode == 1
    assert "Cannot write" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_jetson_nobody_configured(edgecr):
    done = edgecr("profile", "--device", "jetson")
    assert done.returncode == 2
    for words in ("edgecr devices add my-jetson --host jetson", "~/.ssh/config"):
        assert words in done.stderr
