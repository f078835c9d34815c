"""A file and its record are changed together, so that only other records can tell: nothing forged ships."""

import json
import shutil

import numpy as np
import pytest

from edgecr.core.files import sha256
from edgecr.robustness.result import question_key, read_answers, write_answers
from edgecr.stages.asked import answers_key
from tests.security.evidence import OTHER, deleted, folder, refused, regate, rewrite, said, truncated, vouch

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
        lambda plan: plan.update(indices=plan["indices"][:-1]),
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


@pytest.mark.parametrize("role", OTHER)
def test_a_manifest_that_tells_of_the_other_role_is_found_out(run, role):
    manifest = f"export/onnx/{role}/model.manifest.json"
    rewrite(run / manifest, lambda values: values["lineage"].update(role=OTHER[role]))
    vouch(run, f"export-onnx-{role}", manifest)
    assert f"NOT VERIFIED {manifest} describes another file" in refused(run, "check")
