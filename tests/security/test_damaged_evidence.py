"""Whatever is done to a finished run's evidence, neither `check` nor `report` says SHIP; and what was done is named."""

import json
import shutil

import pytest

from tests.security.evidence import (
    dangling,
    deleted,
    emptied,
    folder,
    garbage,
    one_byte,
    other_role,
    pipe,
    refused,
    regate,
    rewrite,
    said,
    truncated,
    vouch,
)


def evidence(run):
    files = (path.relative_to(run).as_posix() for path in sorted(run.rglob("*")) if path.is_file())
    cache = ("events.jsonl", "report.", "stages/report.json")
    return [file for file in files if not file.startswith(cache) and not file.startswith(".")]


def test_the_undamaged_run_ships(run):
    for command in ("check", "report"):
        code, output = said(run, command)
        assert code == 0, output
        assert "SHIP" in output
    assert "NOT VERIFIED" not in said(run, "check")[1]
    assert len(evidence(run)) == 36, "a kind of evidence that this test does not know"


DAMAGES = [emptied, garbage, truncated, one_byte, deleted, folder, dangling, pipe, other_role]


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file(small_run, tmp_path, damage):
    for file in evidence(small_run):
        if damage is one_byte and file.startswith("stages/step-"):
            continue  # the byte lies in who made the step, which is not judged
        run = shutil.copytree(small_run, tmp_path / "copy")
        before = (run / file).read_bytes()
        damage(run / file)
        after = run / file
        if not (after.is_file() and after.read_bytes() == before):
            output = refused(run, "check")
            named = file in output or (file.startswith("stages/") and "NOT VERIFIED" in output)
            assert named or file == "run.json", output
        shutil.rmtree(run)


def numbers(value, path=()):
    """Yields the paths of the numbers in a JSON value."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(inner, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def edited(path, place, change):
    value = json.loads(path.read_text())
    here = value
    for key in place[:-1]:
        here = here[key]
    here[place[-1]] = change(here[place[-1]])
    path.write_text(json.dumps(value))


@pytest.mark.slow
def test_one_number_edited(small_run, tmp_path):
    for file in [each for each in evidence(small_run) if each.endswith(".json") and not each.startswith("stages/")]:
        places = list(numbers(json.loads((small_run / file).read_text())))
        for place in dict.fromkeys([*places[:1], *places[len(places) // 2 :][:1], *places[-1:]]):
            run = shutil.copytree(small_run, tmp_path / "copy")
            edited(run / file, place, lambda value: value + 1)
            refused(run, "check")
            shutil.rmtree(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["outputs"].clear(),
        lambda record: record["outputs"].popitem(),
        lambda record: record["outputs"].update(dict.fromkeys(record["outputs"], "0" * 64)),
        lambda record: record["outputs"].update({"../outside": "0" * 64}),
        lambda record: record.pop("outputs"),
        lambda record: record.update(outputs=3),
        lambda record: record.pop("key"),
    ],
    ids=["no outputs", "one output less", "other hashes", "an escape", "no list", "a wrong list", "no key"],
)
def test_an_edited_record(small_run, tmp_path, change):
    for path in sorted((small_run / "stages").glob("*.json")):
        if path.stem == "report":
            continue
        run = shutil.copytree(small_run, tmp_path / "copy")
        rewrite(run / "stages" / path.name, change)
        refused(run, "check")
        shutil.rmtree(run)


@pytest.mark.parametrize(
    "name", ["export-onnx-baseline", "export-onnx-candidate", "measure-quick@onnx", "robustness-noise5@onnx"]
)
def test_a_record_of_other_inputs(run, name):
    rewrite(run / "stages" / f"{name}.json", lambda record: record.update(key="0" * 64))
    assert f"stages/{name}.json" in refused(run)


def test_every_judging_command_refuses_a_candidate_that_is_the_baseline(run):
    shutil.copy(run / "export/onnx/baseline/model.onnx", run / "export/onnx/candidate/model.onnx")
    assert "export/onnx/candidate/model.onnx was changed" in refused(run)
    assert "was changed" in (run / "report.md").read_text()
    assert "was changed" in (run / "report.html").read_text()
    result = json.loads((run / "report.json").read_text())
    assert "export/onnx/candidate/model.onnx" in result["unverified"]
    assert {gate["status"] for gate in result["gates"]} == {"INCOMPLETE"}


def test_a_stored_verdict_is_not_believed(run):
    def stricter(record):
        for recipe in (record["recipe"], record["canonical"]):
            recipe["gates"]["size"].update(ratio=0.01)

    rewrite(run / "run.json", stricter)
    vouch(run, "run", "run.json")
    assert "SHIP" in (run / "report.md").read_text()
    code, output = said(run, "check")
    assert code == 1
    assert output.endswith("DON'T SHIP")
    assert "FAIL size" in output


def test_a_written_verdict_is_not_needed(run):
    (run / "report.json").write_text("{}")
    assert said(run, "check")[0] == 0


def test_a_changed_step_is_named_though_no_gate_rests_on_it(run):
    regate(run, size={"ratio": 1.0})
    (run / "steps/00-prune/records/plan.json").write_text("{}")
    code, output = said(run, "check")
    assert "NOT VERIFIED steps/00-prune/records/plan.json was changed" in output
    assert code == 0
    said(run, "report")
    step = json.loads((run / "report.json").read_text())["steps"][0]
    assert step["records"] == []
