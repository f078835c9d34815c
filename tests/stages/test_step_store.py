"""The step store: a step is made once, and taken over only where it would have come out the same."""

import json
import threading

import pytest

from edgecr.stages.step_store import StepStore, maker
from edgecr.training.context import Execution

MAKER = {"packages": {"torch": "1"}, "cpu": "x", "threads": 2, "accelerator": "cpu", "devices": 1}
INPUTS = {"step": {"train": {"epochs": 1}}, "seed": [0, 0]}


def store(root, **changed):
    return StepStore(root / ".steps", MAKER | changed)


def made(root, **changed):
    step = store(root, **changed).step(INPUTS)
    with step.held(lambda: None):
        (step.folder / "subject").mkdir()
        (step.folder / "subject" / "tensors").write_text("weights")
        (step.folder / "history.json").write_text("{}")
        step.finish(run="a", seconds=1.0)
    return step


def test_a_step_is_taken_over_for_the_same_inputs_and_maker(tmp_path):
    assert store(tmp_path).step(INPUTS).finished() is None
    made(tmp_path)
    record = store(tmp_path).step(INPUTS).finished()
    assert (record["run"], record["seconds"], sorted(record["outputs"])) == (
        "a",
        1.0,
        ["history.json", "subject/tensors"],
    )
    assert store(tmp_path).step(INPUTS | {"seed": [0, 1]}).finished() is None


@pytest.mark.parametrize(
    "changed",
    [
        {"packages": {"torch": "2"}},
        {"cpu": "y"},
        {"threads": 1},
        {"accelerator": "GPU"},
        {"devices": 2},
        {"source": "new"},
    ],
)
def test_another_maker_makes_the_step_anew_and_both_stay(tmp_path, changed):
    made(tmp_path)
    assert store(tmp_path, **changed).step(INPUTS).finished() is None
    made(tmp_path, **changed)
    assert store(tmp_path).step(INPUTS).finished()


def test_the_maker_is_everything_that_changes_the_bits_of_a_training():
    facts = maker(Execution(threads=3, devices=2))
    assert (facts["threads"], facts["accelerator"], facts["devices"]) == (3, "cpu", 2)
    assert facts["packages"]["torch"]
    assert len(facts["source"]) == 64


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_that_nobody_set_are_those_that_torch_uses(monkeypatch, threads):
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    assert maker(Execution())["threads"] == threads
    assert maker(Execution(threads=5))["threads"] == 5


@pytest.mark.parametrize("damage", ["edited", "removed", "added", "record", "moved", "facts"])
def test_a_damaged_step_is_not_taken_over(tmp_path, damage):
    step = made(tmp_path)
    file, record = step.folder / "subject" / "tensors", step.folder / "record.json"
    if damage == "edited":
        file.write_text("Weights")
    elif damage == "removed":
        file.unlink()
    elif damage == "added":
        (step.folder / "plan.json").write_text("{}")
    elif damage == "record":
        record.write_text("[1]")
    elif damage == "facts":
        record.write_text(json.dumps({k: v for k, v in json.loads(record.read_text()).items() if k != "seconds"}))
    else:
        content = json.loads(record.read_text())
        record.write_text(json.dumps(content | {"inputs": {"step": "another"}}))
    assert store(tmp_path).step(INPUTS).finished() is None


def test_a_run_holds_the_same_file_and_survives_without_the_store(tmp_path):
    step = made(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "leftover").write_text("of an earlier try")
    step.hand_over(tmp_path / "run")
    assert sorted(file.name for file in (tmp_path / "run").rglob("*")) == ["history.json", "subject", "tensors"]
    assert (tmp_path / "run/subject/tensors").stat().st_ino == (step.folder / "subject/tensors").stat().st_ino
    with step.held(lambda: None):
        step.clear()
    assert step.finished() is None
    assert (tmp_path / "run/subject/tensors").read_text() == "weights"


def test_links_that_a_file_system_refuses_become_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "cross-device link")

    monkeypatch.setattr("edgecr.stages.step_store.os.link", refuse)
    made(tmp_path).hand_over(tmp_path / "run")
    assert (tmp_path / "run/subject/tensors").read_text() == "weights"


def test_the_second_of_two_waits_and_takes_what_the_first_made(tmp_path):
    first, told, found = store(tmp_path).step(INPUTS), threading.Event(), []

    def second():
        step = store(tmp_path).step(INPUTS)
        with step.held(told.set):
            found.append(step.finished())

    with first.held(lambda: pytest.fail("nobody else has it")):
        other = threading.Thread(target=second)
        other.start()
        assert told.wait(10)
        (first.folder / "history.json").write_text("{}")
        first.finish(run="a", seconds=1.0)
    other.join(10)
    assert found[0]["run"] == "a"


def test_what_stands_in_the_way_of_a_record_goes_before_the_work(tmp_path):
    step = store(tmp_path).step(INPUTS)
    (step.folder / "record.json").mkdir(parents=True)
    (step.folder / "record.json" / "in the way").write_text("x")
    assert step.finished() is None
    step.begin()
    step.finish(run="a", seconds=1.0)
    assert step.finished()
