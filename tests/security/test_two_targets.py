"""A run with two targets: both are measured and judged, and damage to one of them leaves the other unharmed."""

import json
import shutil
import xml.etree.ElementTree as xml

import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.files import sha256

TARGETS = ("onnx", "onnx-embedded")


def invoke(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.fixture
def run(two_run, tmp_path):
    """A copy to damage."""
    return shutil.copytree(two_run, tmp_path / two_run.name)


def judged(run):
    """The written report, judged anew, and the exit code that goes with it."""
    code, _ = invoke("report", run)
    values = json.loads((run / "report.json").read_text())
    return code, values, {row["target"]: row["verdict"] for row in values["candidates"]}


def rewrite(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def vouch(run, stage, *files):
    """Makes a stage's record agree with what its files are now."""
    found = {file: sha256(run / file) for file in files}
    rewrite(run / "stages" / f"{stage}.json", lambda record: record["outputs"].update(found))


def regate(run, **gates):
    """The run as if it had been asked for other gates."""
    rewrite(run / "run.json", lambda record: [record[name].update(gates=gates) for name in ("recipe", "canonical")])
    vouch(run, "run", "run.json")


def test_both_targets_are_exported_measured_asked_and_judged(run):
    for target in TARGETS:
        for place in (f"export/{target}/candidate", f"measure/quick@{target}.json", f"robustness/noise5@{target}"):
            assert (run / place).exists()
    code, values, verdicts = judged(run)
    assert (code, values["verdict"], verdicts) == (0, "SHIP", dict.fromkeys(TARGETS, "SHIP"))
    assert [(row["target"], row["role"]) for row in values["models"]] == [
        (target, role) for target in TARGETS for role in ("baseline", "candidate")
    ]
    sizes = {row["target"]: row["size_bytes"] for row in values["models"] if row["role"] == "candidate"}
    assert sizes == {target: (run / f"export/{target}/candidate/model.onnx").stat().st_size for target in TARGETS}
    assert {(row["target"], row["device"], row["batch"]) for row in values["latency"]} == {
        (target, "quick", batch) for target in TARGETS for batch in (1, 2)
    }
    assert {row["target"] for row in values["accuracy"]} == set(TARGETS)
    assert len(values["gates"]) == 2 * 7
    assert len(values["examples"]) == len({(each["condition"], each["index"]) for each in values["examples"]})


def test_each_target_is_measured_once_and_with_its_own_baseline(two_run):
    measured = [json.loads((two_run / f"measure/quick@{target}.json").read_text()) for target in TARGETS]
    for target, each in zip(TARGETS, measured):
        arms = {(arm["label"], arm["sha256"]) for arm in each["arms"]}
        roles = ("baseline", "candidate")
        assert arms == {(role, sha256(two_run / f"export/{target}/{role}/model.onnx")) for role in roles}
    said = [json.loads(line).get("text", "") for line in (two_run / "events.jsonl").read_text().splitlines()]
    begun = [text for text in said if text.startswith("Measuring") and "takes at least" not in text]
    assert begun == [f"Measuring {each} on quick" for each in TARGETS]


def test_check_says_which_target_ships_where(run, tmp_path):
    code, output = invoke("check", run, "--junit", tmp_path / "junit.xml")
    lines = output.splitlines()
    assert (code, lines[-1]) == (0, "SHIP")
    assert [line for line in lines if not line.startswith(" ")][:2] == [
        f"SHIP        {each} on quick" for each in TARGETS
    ]
    assert "on quick ship onnx" in lines[-2]
    root = xml.parse(tmp_path / "junit.xml").getroot()
    assert [suite.get("tests") for suite in root.iter("testsuite")] == ["1", "7", "7"]


def test_the_page_and_the_comparison_name_both(run, tmp_path):
    judged(run)
    page = (run / "report.html").read_text()
    assert page.index("<h2>Candidates") < page.index("<h2>Gates")
    assert "onnx-embedded on quick, batch 2" in page
    assert invoke("compare", run, run, "-o", tmp_path / "both.md")[0] == 0
    assert (tmp_path / "both.md").read_text().count(": onnx-embedded |") == 4


DAMAGED = [
    "export/{}/baseline/model.onnx",
    "export/{}/candidate/model.onnx",
    "export/{}/candidate/model.manifest.json",
    "stages/export-{}-candidate.json",
    "measure/quick@{}.json",
    "stages/measure-quick@{}.json",
    "robustness/noise5@{}/fog.npz",
    "robustness/noise5@{}/examples.json",
    "stages/robustness-noise5@{}.json",
]


@pytest.mark.parametrize("file", DAMAGED)
@pytest.mark.parametrize(("hurt", "whole"), [TARGETS, TARGETS[::-1]])
def test_damage_to_one_target_leaves_the_other_unharmed(run, hurt, whole, file):
    place = run / file.format(hurt)
    place.write_bytes(place.read_bytes()[:-7])
    before = (run / "report.json").read_bytes()
    code, output = invoke("check", run)
    assert (run / "report.json").read_bytes() == before
    assert code == 0
    assert f"SHIP        {whole} on quick" in output
    assert f"INCOMPLETE  {hurt} on quick" in output
    assert f"NOT VERIFIED {file.format(hurt)}" in output
    assert f"on quick ship {whole}" in output
    _, values, verdicts = judged(run)
    assert verdicts == {whole: "SHIP", hurt: "INCOMPLETE"}
    assert list(values["unverified"]) == [file.format(hurt)]
    assert {gate["status"] for gate in values["gates"] if gate["target"] == whole} == {"PASS"}
    written = (run / "report.html").read_text()
    assert file.format(hurt) in written


@pytest.mark.parametrize("gates", [{"budget": {"ratio": 1.0}}, {"size": {"max": 9.0}}, {"params": {"max": 1e9}}])
@pytest.mark.parametrize("file", ["export/{}/baseline/model.onnx", "export/{}/candidate/model.onnx"])
def test_no_gate_lets_a_target_ship_whose_file_is_not_what_was_made(run, gates, file):
    regate(run, **gates)
    assert judged(run)[2] == dict.fromkeys(TARGETS, "SHIP")
    place = run / file.format("onnx-embedded")
    place.write_bytes(place.read_bytes() + b"\0")
    assert judged(run)[2] == {"onnx": "SHIP", "onnx-embedded": "INCOMPLETE"}


@pytest.mark.parametrize(
    "file", ["run.json", "environment.json", "candidate/tensors.safetensors", "baseline/counts.json"]
)
def test_what_both_rest_on_harms_both(run, file):
    if file == "run.json":
        rewrite(run / file, lambda record: record.update(purpose="another"))
    else:
        (run / file).write_bytes((run / file).read_bytes()[:-1])
    code, values, verdicts = judged(run)
    assert (code, values["verdict"], verdicts) == (1, "INCOMPLETE", dict.fromkeys(TARGETS, "INCOMPLETE"))


def test_both_targets_damaged_is_incomplete_and_never_a_pass(run):
    for target in TARGETS:
        (run / f"measure/quick@{target}.json").unlink()
    code, values, verdicts = judged(run)
    assert (code, values["verdict"], verdicts) == (1, "INCOMPLETE", dict.fromkeys(TARGETS, "INCOMPLETE"))


def test_the_files_of_one_target_do_not_answer_for_the_other(run):
    """Whole evidence of a target, copied over another one's with records made to agree, is recognised."""
    for name, stage in (
        ("measure/quick@{}.json", "measure-quick@{}"),
        ("robustness/noise5@{}/robustness.json", "robustness-noise5@{}"),
    ):
        copy = shutil.copytree(run, run.parent / stage.partition("-")[0])
        shutil.copy(copy / name.format("onnx"), copy / name.format("onnx-embedded"))
        vouch(copy, stage.format("onnx-embedded"), name.format("onnx-embedded"))
        assert judged(copy)[2] == {"onnx": "SHIP", "onnx-embedded": "INCOMPLETE"}


def test_a_manifest_that_counts_other_work_accuses_its_own_target(run):
    manifest = "export/onnx-embedded/candidate/model.manifest.json"
    rewrite(run / manifest, lambda values: values["receipt"]["file"].update(macs=10))
    vouch(run, "export-onnx-embedded-candidate", manifest)
    _, values, verdicts = judged(run)
    assert verdicts == {"onnx": "SHIP", "onnx-embedded": "INCOMPLETE"}
    assert list(values["unverified"]) == [manifest]


def test_counts_that_no_file_has_accuse_themselves(run):
    rewrite(run / "candidate/counts.json", lambda counts: counts.update(macs=10))
    vouch(run, "candidate", "candidate/counts.json")
    _, values, verdicts = judged(run)
    assert verdicts == dict.fromkeys(TARGETS, "INCOMPLETE")
    assert list(values["unverified"]) == ["candidate/counts.json"]


def test_a_forged_verdict_is_not_believed(run):
    regate(run, size={"max": 1e-9})
    code, values, verdicts = judged(run)
    assert (code, values["verdict"], verdicts) == (1, "DON'T SHIP", dict.fromkeys(TARGETS, "DON'T SHIP"))


# Commands beside the recipe


def test_commands_mend_the_second_target_in_its_own_place(run, two_run):
    device = two_run.parent.parent / "quick.yaml"
    (run / "measure/quick@onnx-embedded.json").unlink()
    (run / "robustness/noise5@onnx-embedded/fog.npz").unlink()
    assert judged(run)[2]["onnx-embedded"] == "INCOMPLETE"
    assert invoke("profile", run, "--device", device, "--target", "onnx-embedded", "-q")[0] == 0
    assert invoke("robustness", run, "--target", "onnx-embedded", "-q")[0] == 0
    assert not (run / "extra").exists()
    assert judged(run)[2] == dict.fromkeys(TARGETS, "SHIP")


def test_a_finished_run_does_nothing_twice(run, two_run):
    before = {
        file: file.read_bytes() for file in sorted(run.rglob("*")) if file.is_file() and "report" not in file.name
    }
    device = two_run.parent.parent / "quick.yaml"
    assert invoke("profile", run, "--device", device, "--target", "onnx-embedded", "-q")[0] == 0
    after = {file: file.read_bytes() for file in before}
    assert after == before
