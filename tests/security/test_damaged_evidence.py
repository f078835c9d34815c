"""Whatever is done to a finished run's evidence, neither `check` nor `report` says SHIP; and what was done is named."""

import json
import os
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import EdgecrError
from edgecr.core.files import sha256
from edgecr.robustness.result import question_key, read_answers, write_answers
from edgecr.stages.asked import answers_key

OTHER = {"baseline": "candidate", "candidate": "baseline"}


def said(run, command):
    """The exit code and the output of a command; anything but an explained error is a failure of the test."""
    done = CliRunner().invoke(app, [command, str(run)])
    error = done.exception
    if isinstance(error, EdgecrError):
        return error.exit_code, str(error)
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return done.exit_code, " ".join(done.output.split())


def refused(run, *commands):
    for command in commands or ("check", "report"):
        code, output = said(run, command)
        assert code != 0, (command, output)
        assert "SHIP" not in output.replace("DON'T SHIP", ""), (command, output)
    return output


@pytest.fixture
def run(small_run, tmp_path):
    """A copy to damage."""
    return shutil.copytree(small_run, tmp_path / small_run.name)


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
    assert len(evidence(run)) == 33, "a kind of evidence that this test does not know"


def emptied(path):
    path.write_bytes(b"")


def garbage(path):
    path.write_bytes(b"\x00\xff garbage" * 9)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-7])


def one_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def deleted(path):
    path.unlink()


def folder(path):
    path.unlink()
    path.mkdir()


def dangling(path):
    path.unlink()
    path.symlink_to("nowhere")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def other_role(path):
    """The file of the other role; for files without a role, another one of the run."""
    for role, other in OTHER.items():
        if role in path.parts:
            parts = [other if part == role else part for part in path.parts]
            return path.write_bytes(type(path)(*parts).read_bytes())
    root = next(parent for parent in path.parents if (parent / "recipe.yaml").exists())
    return path.write_bytes((root / "baseline" / "subject.json").read_bytes())


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
    """Where the numbers of a JSON value stand."""
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


# Forgeries: a file and its record are changed together, so that only other records can tell


def rewrite(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def vouch(run, stage, *files):
    """Makes a stage's record agree with what its files are now."""
    rewrite(
        run / "stages" / f"{stage}.json",
        lambda record: record["outputs"].update({file: sha256(run / file) for file in files}),
    )


def regate(run, **gates):
    """The run as if it had been asked for other gates."""
    rewrite(run / "run.json", lambda record: [record[name].update(gates=gates) for name in ("recipe", "canonical")])
    vouch(run, "run", "run.json")


EXPORT = "export/onnx/candidate"
ANY_GATE = [{"budget": {"ratio": 1.0}}, {"size": {"max": 9.0}}, {"latency_p50": {"ratio": 100}}]


@pytest.mark.parametrize("gates", ANY_GATE, ids=str)
def test_no_gate_holds_on_a_changed_record_of_the_question(run, gates):
    before = (run / "stages/run.json").read_bytes()
    regate(run, **gates)
    assert said(run, "check")[1].endswith("SHIP")
    (run / "stages/run.json").write_bytes(before)
    output = refused(run)
    assert "INCOMPLETE" in output
    assert "run.json was changed" in output


@pytest.mark.parametrize("gates", ANY_GATE, ids=str)
@pytest.mark.parametrize(
    "file",
    [
        "environment.json",
        "baseline/tensors.safetensors",
        "candidate/counts.json",
        "candidate/subject.json",
        "export/onnx/baseline/model.onnx",
        "export/onnx/candidate/model.onnx",
        "export/onnx/baseline/model.manifest.json",
        "stages/baseline.json",
        "stages/export-onnx-baseline.json",
    ],
)
def test_nothing_ships_while_a_judged_model_is_not_what_was_made(run, gates, file):
    regate(run, **gates)
    assert said(run, "check")[0] == 0
    damage = deleted if file.startswith("stages/") else truncated
    damage(run / file)
    output = refused(run, "check")
    assert output.endswith(" INCOMPLETE")
    assert f"NOT VERIFIED {file}" in output
    refused(run, "report")
    result = json.loads((run / "report.json").read_text())
    assert any(gate["status"] == "INCOMPLETE" and file in gate["text"] for gate in result["gates"])
    assert not any("hold" in line for line in (run / "report.md").read_text().splitlines() if line.startswith("- all"))


@pytest.mark.parametrize(
    "file",
    [f"{role}/{name}" for role in OTHER for name in ("tensors.safetensors", "subject.json")]
    + [f"export/onnx/{role}/model.onnx" for role in OTHER],
)
def test_only_the_damaged_file_is_accused(run, file):
    truncated(run / file)
    refused(run)
    assert list(json.loads((run / "report.json").read_text())["unverified"]) == [file]


def test_a_plan_that_its_step_does_not_vouch_for_is_not_read(run):
    rewrite(run / "stages/step-00-prune.json", lambda record: record["outputs"].pop("steps/00-prune/records/plan.json"))
    rewrite(run / "steps/00-prune/records/plan.json", lambda plan: plan["shown"]["budgets"][0].update(reached=1))
    assert "stages/step-00-prune.json does not vouch for steps/00-prune/records/plan.json" in refused(run)
    assert "to 1" not in (run / "report.md").read_text()


def test_a_history_that_its_step_does_not_vouch_for_is_not_read(run):
    (run / "steps/00-prune/history.json").write_text('{"epochs": []}')
    assert "stages/step-00-prune.json does not vouch for steps/00-prune/history.json" in refused(run)


@pytest.mark.parametrize(
    "change", [lambda plan: plan.update(schema_version=9), lambda plan: plan["shown"].update(budgets=3)]
)
def test_a_forged_plan_that_cannot_be_read_is_named(run, change):
    rewrite(run / "steps/00-prune/records/plan.json", change)
    vouch(run, "step-00-prune", "steps/00-prune/records/plan.json")
    assert "NOT VERIFIED steps/00-prune/records/plan.json" in refused(run, "check")


def test_every_fact_about_damaged_evidence_stands_once(run):
    for file in (
        "export/onnx/baseline/model.onnx",
        "measure/quick@onnx.json",
        "robustness/noise5@onnx/robustness.json",
    ):
        folder(run / file)
    refused(run)
    result = json.loads((run / "report.json").read_text())
    assert result["warnings"] == []
    words = (run / "report.md").read_text().replace("\\", "")
    for tile in (
        "MB** (not verified: export/onnx/baseline/model.onnx)",
        "clean accuracy: **INCOMPLETE** (not verified: robustness/noise5@onnx/robustness.json)",
        "median latency: **INCOMPLETE** (not verified: measure/quick@onnx.json)",
    ):
        assert tile in words
    assert words.count("measure/quick@onnx.json: is not a file") == 1
    table = words.partition("## Speed on the device")[2].partition("##")[0]
    assert "not verified: measure/quick@onnx.json" in table


def test_a_gate_names_where_and_every_file(run):
    folder(run / "measure/quick@onnx.json")
    output = refused(run, "check")
    assert "latency_p50: on quick, batch 1 (worst of 2): measure/quick@onnx.json is not a file" in output
    truncated(run / "export/onnx/candidate/model.onnx")
    output = refused(run, "check")
    assert "measure/quick@onnx.json is not a file; also not verified: export/onnx/candidate/model.onnx" in output
    assert "was changed after its stage wrote it: restore the file, or run `edgecr compress` again" in output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "`purpose` is missing"),
        ('{"purpose": 3}', "`purpose`: Input should be a valid string"),
    ],
)
def test_a_damaged_question_says_what_is_missing_and_what_to_do(run, content, words):
    (run / "run.json").write_text(content)
    code, output = said(run, "check")
    assert code == 2
    assert f"run.json is damaged, or of another version: {words}" in output
    assert "Run its `edgecr compress` command again" in output


def test_results_that_were_kept_apart_are_listed_as_not_judged(run):
    said(run, "report")
    assert "Not judged" not in (run / "report.md").read_text()
    for name in ("measure/quick@onnx-1.json", "robustness/noise5@onnx-2/robustness.json"):
        (run / "extra" / name).parent.mkdir(parents=True, exist_ok=True)
        (run / "extra" / name).write_text("{}")
    assert said(run, "report")[0] == 0
    for form in ("md", "html"):
        words = (run / f"report.{form}").read_text()
        for place in ("extra/measure/quick@onnx-1.json", "extra/robustness/noise5@onnx-2"):
            assert place in words
        assert "Not judged" in words


def test_a_swapped_file_with_a_forged_record(run):
    shutil.copy(run / "export/onnx/baseline/model.onnx", run / EXPORT / "model.onnx")
    vouch(run, "export-onnx-candidate", f"{EXPORT}/model.onnx")
    assert "model.manifest.json describes another file" in refused(run)


def test_a_swapped_file_with_a_forged_manifest_too(run):
    shutil.copy(run / "export/onnx/baseline/model.onnx", run / EXPORT / "model.onnx")
    model = run / EXPORT / "model.onnx"
    rewrite(
        run / EXPORT / "model.manifest.json",
        lambda manifest: manifest.update(sha256=sha256(model), size_bytes=model.stat().st_size),
    )
    vouch(run, "export-onnx-candidate", f"{EXPORT}/model.onnx", f"{EXPORT}/model.manifest.json")
    output = refused(run)
    assert "was made from other model files" in output


def test_a_manifest_that_tells_of_ten_bytes(run):
    rewrite(run / EXPORT / "model.manifest.json", lambda manifest: manifest.update(size_bytes=10))
    vouch(run, "export-onnx-candidate", f"{EXPORT}/model.manifest.json")
    assert "describes another file" in refused(run)


def test_a_subject_of_another_run(run):
    shutil.copy(run / "baseline/tensors.safetensors", run / "candidate/tensors.safetensors")
    vouch(run, "candidate", "candidate/tensors.safetensors")
    assert "stages/export-onnx-candidate.json tells of another" in refused(run)


def test_fewer_macs_than_the_file_has(run):
    rewrite(run / "candidate/counts.json", lambda counts: counts.update(macs=10))
    vouch(run, "candidate", "candidate/counts.json")
    assert "counts other work than the exported file has" in refused(run)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: one["launches"].pop(), "1 of 2 launches"),
        (lambda one: one["launches"].clear(), "0 of 2 launches"),
        (lambda one: [launch.update(rounds=launch["rounds"][:4]) for launch in one["launches"]], "1 of 3 rounds"),
        (lambda one: one.update(error="the board went away."), "the board went away"),
        (lambda one: one["device"]["protocol"].update(launches=1), "another device, or under another protocol"),
        (lambda one: one["device"].update(name="elsewhere"), "another device"),
        (lambda one: one["arms"][0].update(sha256="0" * 64), "was made from other model files"),
        (lambda one: one["arms"][2].update(label="baseline"), "was made from other model files"),
        (lambda one: one.update(arms=one["arms"][:1]), "measure"),
        (lambda one: one.update(schema_version=7), "cannot be read"),
    ],
)
def test_a_forged_measurement(run, change, words):
    rewrite(run / "measure/quick@onnx.json", change)
    vouch(run, "measure-quick@onnx", "measure/quick@onnx.json")
    assert words in refused(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan.update(labels=[0] * len(plan["labels"])),
        lambda plan: plan.update(indices=plan["indices"][:3]),
        lambda plan: plan["roles"].update(candidate="0" * 64),
        lambda plan: plan.update(seed=plan["seed"] + 1),
        lambda plan: plan.update(conditions=["clean"]),
        lambda plan: plan.pop("roles"),
    ],
)
def test_a_forged_question(run, change):
    rewrite(run / "robustness/noise5@onnx/robustness.json", change)
    vouch(run, "robustness-noise5@onnx", "robustness/noise5@onnx/robustness.json")
    assert "robustness/noise5@onnx/robustness.json" in refused(run)


def requestion(run, **changes):
    """The answers as if they were to another question, with every key and record made to agree."""
    place = run / "robustness/noise5@onnx"
    plan = json.loads((place / "robustness.json").read_text())
    answers = {file: read_answers(file, plan["key"]) for file in place.glob("*.npz")}
    plan |= changes
    plan["key"] = question_key(plan)
    (place / "robustness.json").write_text(json.dumps(plan))
    for file, each in answers.items():
        write_answers(file, each, plan["key"])
    vouch(run, "robustness-noise5@onnx", *(file.relative_to(run).as_posix() for file in place.iterdir()))
    images = json.loads((run / "run.json").read_text())["recipe"]["robustness"]["images"]
    rewrite(
        run / "stages/robustness-noise5@onnx.json", lambda record: record.update(key=answers_key(plan["key"], images))
    )


def test_answers_under_another_seed_with_every_key_forged(run):
    requestion(run)
    assert said(run, "check")[0] == 0
    place = run / "robustness/noise5@onnx/robustness.json"
    requestion(run, seed=json.loads(place.read_text())["seed"] + 1)
    assert "robustness/noise5@onnx/robustness.json is about another suite or seed than the recipe's" in refused(run)


def test_answers_to_another_number_of_images_with_every_key_forged(run):
    requestion(run)
    place = run / "robustness/noise5@onnx/robustness.json"
    key = answers_key(json.loads(place.read_text())["key"], 11)
    rewrite(run / "stages/robustness-noise5@onnx.json", lambda record: record.update(key=key))
    assert "robustness-noise5@onnx.json was made under other options than the recipe's" in refused(run)


@pytest.mark.parametrize("name", ["../outside", "stages/../../outside", "absolute"])
def test_a_record_vouches_only_for_files_of_its_run(run, name):
    outside = run.parent / "outside"
    outside.write_text("not of the run")
    file = str(outside) if name == "absolute" else name
    rewrite(run / "stages/candidate.json", lambda record: record["outputs"].update({file: sha256(outside)}))
    assert f"NOT VERIFIED {file} lies outside of the run folder" in refused(run, "check")


def test_forged_answers(run):
    place = "robustness/noise5@onnx/fog.npz"
    with np.load(run / place) as opened:
        arrays = dict(opened)
    arrays["candidate.choices"] = arrays["candidate.choices"] + 1
    np.savez_compressed(run / place, **arrays)
    vouch(run, "robustness-noise5@onnx", place)
    assert "was changed after it was written" in refused(run)


def test_answers_without_their_record_are_made_again(run):
    place = run / "robustness/noise5@onnx"
    key = json.loads((place / "robustness.json").read_text())["key"]
    answered = {path: read_answers(path, key) for path in place.glob("*.npz")}
    for path, roles in answered.items():
        choices = roles["candidate"]["choices"]
        forged = {**roles["candidate"], "choices": np.zeros_like(choices)}
        assert (forged["choices"] != choices).any(), path.name
        write_answers(path, roles | {"candidate": forged}, key)
    (run / "stages/robustness-noise5@onnx.json").unlink()
    code, output = said(run, "robustness")
    assert code == 0, output
    for path, roles in answered.items():
        assert (read_answers(path, key)["candidate"]["choices"] == roles["candidate"]["choices"]).all(), path.name


def test_gates_that_were_loosened_after_the_run(run):
    rewrite(run / "run.json", lambda record: record["recipe"]["gates"]["size"].update(ratio=9.0))
    vouch(run, "run", "run.json")
    code, output = said(run, "check")
    assert code == 2
    assert "contradicts itself" in output
