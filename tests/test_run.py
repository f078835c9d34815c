"""The run folder: what counts as finished, who may write."""

import json

import pytest

from edgecr.core.errors import FileProblem, RunBusy
from edgecr.core.progress import Monitor
from edgecr.run import Run, RunMonitor, identity

ENVIRONMENT = {"packages": {"torch": "1"}, "cpu": "x", "threads": 2, "python": "3"}


def made(root, name, environment=ENVIRONMENT):
    run = Run(root / name)
    run.folder.mkdir(parents=True)
    run.begin({"name": name}, "name: x\n", environment)
    return run


def finish_step(run, key="k"):
    output = run.step(0, "train") / "subject"
    output.mkdir(parents=True)
    (output / "tensors").write_text("weights")
    run.finish("step", key, [output])
    return output


def test_a_stage_is_finished_for_its_key_and_its_very_outputs(tmp_path):
    run = made(tmp_path, "a")
    assert not run.finished("step", "k")
    output = finish_step(run)
    assert run.finished("step", "k")
    assert not run.finished("step", "other")
    (output / "tensors").write_text("edited")
    assert not run.finished("step", "k")


def test_only_one_writer(tmp_path):
    run = Run(tmp_path / "a")
    with run.writing(), pytest.raises(RunBusy, match="Another edgecr process"), Run(run.folder).writing():
        pass
    with run.writing():
        pass


def test_a_second_start_keeps_the_time_of_the_first_and_mends_the_record(tmp_path):
    run = made(tmp_path, "a")
    first, stage = run.record, run.stage("run").read_bytes()
    run.begin({"name": "a"}, "name: x\n", ENVIRONMENT)
    assert run.record == first
    assert run.stage("run").read_bytes() == stage
    (run.folder / "run.json").write_text(json.dumps(first | {"name": "edited", "created": "then"}))
    run.begin({"name": "a"}, "name: x\n", ENVIRONMENT)
    assert run.record == first | {"created": "then"}


def test_another_environment_is_listed_beside_the_first(tmp_path):
    run = made(tmp_path, "a", ENVIRONMENT | {"command": ["compress"]})
    run.begin({"name": "a"}, "name: x\n", ENVIRONMENT | {"command": ["compress", "--threads", "2"]})
    written = json.loads((run.folder / "environment.json").read_text())
    assert (written["command"], written["resumed"]) == (["compress"], [])
    for _ in range(2):
        run.begin({"name": "a"}, "name: x\n", ENVIRONMENT | {"threads": 7})
    written = json.loads((run.folder / "environment.json").read_text())
    assert written["threads"] == 2
    assert written["resumed"] == [ENVIRONMENT | {"threads": 7}]
    assert not run.damaged("run")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"key": "k"}', '{"key": "k", "outputs": 3}'])
def test_a_stage_with_a_damaged_record_is_not_finished(tmp_path, text):
    run = made(tmp_path, "a")
    finish_step(run)
    run.stage("step").write_text(text)
    assert not run.finished("step", "k")


def test_no_two_results_share_a_file(tmp_path):
    run = Run(tmp_path)
    assert run.measurement("cpu-fast", "onnx") != run.measurement("cpu", "fast-onnx")
    assert run.robustness("a-b", "c") != run.robustness("a", "b-c")
    own = run.measurement("cpu", "onnx.v2")
    assert run.beside(own, "0123456789") == tmp_path / "extra" / "measure" / "cpu@onnx.v2-01234567.json"
    assert run.beside(run.robustness("a.b", "c"), "0123456789") == tmp_path / "extra/robustness/a.b@c-01234567"


def test_clear_keeps_the_lock(tmp_path):
    run = made(tmp_path, "a")
    finish_step(run)
    with run.writing():
        run.clear()
    assert [path.name for path in run.folder.iterdir()] == [".lock"]


def test_what_is_no_run_is_a_clear_error(tmp_path):
    with pytest.raises(FileProblem, match="not a run folder"):
        Run.find(tmp_path)
    with pytest.raises(FileProblem, match="no run in"):
        Run.latest(tmp_path)
    assert Run.latest(made(tmp_path, "a").folder.parent).folder.name == "a"


def test_events_are_lines_of_json(tmp_path):
    run = made(tmp_path, "a")
    monitor = RunMonitor(run, Monitor())
    monitor.say("hello")
    monitor.event("pruned", params=[2, 1])
    lines = [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["say", "pruned"]
    assert lines[1]["params"] == [2, 1]


def test_identity_follows_every_part():
    assert identity(1, {"a": 2}) == identity(1, {"a": 2})
    assert identity(1, {"a": 2}) != identity(1, {"a": 3})
