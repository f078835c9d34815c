"""A training that is killed at any moment ends in the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from edgecr.weights import read_tensors
from tests.workplace import train_once

TESTS = Path(__file__).resolve().parent.parent
KEYS = {"epochs": 4, "checkpoint_s": 0.02, "keep": "best", "nesterov": True}
UNHURRIED = 0.02


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def start(folder, precision):
    keys = json.dumps(KEYS | {"precision": precision})
    command = [sys.executable, str(TESTS / "workplace.py"), str(folder), str(UNHURRIED), keys]
    path = os.pathsep.join(p for p in (str(TESTS.parent), os.environ.get("PYTHONPATH")) if p)
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"})


def wait_for_checkpoint(child, folder):
    while child.poll() is None and not (folder / "checkpoint-b" / "state.json").exists():
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_killed_trainings_end_in_the_same_bits(tmp_path, precision):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    undisturbed, _ = train_once(tmp_path / "undisturbed", **KEYS, precision=precision)
    torch.set_num_threads(threads)
    folder = tmp_path / "killed"
    moments = random.Random(precision)
    for _ in range(3):
        child = start(folder, precision)
        wait_for_checkpoint(child, folder)
        time.sleep(moments.uniform(0, 0.25))
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not (folder / "result.safetensors").exists(), "the trainings were to be killed before their end"
    assert start(folder, precision).wait() == 0
    assert same(read_tensors(folder / "result.safetensors"), undisturbed.state_dict())
    assert not list(folder.glob(".*tmp"))


class Stop(Exception):
    pass


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A training of 15 updates that stopped after a given one, a checkpoint behind each."""
    from edgecr.training.session import TrainingState

    def stop(after, **keys):
        step = TrainingState.step

        def until(self, images, labels):
            if self.step_number == after:
                raise Stop
            step(self, images, labels)

        with monkeypatch.context() as patch:
            patch.setattr(TrainingState, "step", until)
            with pytest.raises(Stop):
                train_once(tmp_path / "stopped", checkpoint_s=1e-9, **keys)
        return tmp_path / "stopped"

    return stop


@pytest.mark.parametrize("after", [1, 4, 5, 6, 14])
@pytest.mark.parametrize(
    "keys",
    [
        {"optimiser": "adamw"},
        {"schedule": "onecycle", "decay_norm": False, "clip_norm": 0.5},
        {"sharpness": {"kind": "adasap", "phases": [{"epochs": 2, "rho_min": 0.1, "rho_max": 1.0}]}},
    ],
)
def test_every_step_is_a_place_to_go_on_from(stopped, tmp_path, after, keys):
    undisturbed, history = train_once(tmp_path / "undisturbed", **keys)
    resumed, told = train_once(stopped(after, **keys), **keys)
    assert same(resumed.state_dict(), undisturbed.state_dict())
    assert [(e.loss, e.accuracy, e.validation) for e in told.epochs] == [
        (e.loss, e.accuracy, e.validation) for e in history.epochs
    ]


def newest(folder):
    def serial(checkpoint):
        return json.loads((checkpoint / "state.json").read_text())["serial"]

    return max(folder.glob("checkpoint-*"), key=serial)


@pytest.mark.parametrize("damage", ["truncate", "garbage", "json", "missing", "schema"])
def test_a_damaged_checkpoint_yields_to_the_one_before(stopped, tmp_path, damage):
    undisturbed, _ = train_once(tmp_path / "undisturbed")
    folder = stopped(9)
    hurt(newest(folder), damage)
    resumed, _ = train_once(folder)
    assert same(resumed.state_dict(), undisturbed.state_dict())


def test_two_damaged_checkpoints_mean_a_new_start(stopped, tmp_path):
    undisturbed, _ = train_once(tmp_path / "undisturbed")
    folder = stopped(9)
    for checkpoint in folder.glob("checkpoint-*"):
        hurt(checkpoint, "truncate")
    resumed, _ = train_once(folder)
    assert same(resumed.state_dict(), undisturbed.state_dict())


def hurt(checkpoint, damage):
    tensors, state = checkpoint / "tensors.safetensors", checkpoint / "state.json"
    if damage == "truncate":
        tensors.write_bytes(tensors.read_bytes()[:-10])
    elif damage == "garbage":
        tensors.write_bytes(bytes(100) + tensors.read_bytes()[100:])
    elif damage == "json":
        state.write_text(state.read_text()[:-20])
    elif damage == "missing":
        tensors.unlink()
    else:
        state.write_text("[]")


def test_a_checkpoint_of_other_options_is_not_used(stopped, tmp_path):
    other, _ = train_once(tmp_path / "other", lr=0.02)
    resumed, _ = train_once(stopped(9), lr=0.02)
    assert same(resumed.state_dict(), other.state_dict())


def test_a_finished_training_is_read_back(tmp_path):
    first, _ = train_once(tmp_path)
    second, history = train_once(tmp_path)
    assert same(first.state_dict(), second.state_dict())
    assert len(history.epochs) == 3
