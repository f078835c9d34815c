"""`edgecr check --junit FILE`: what a build server reads of a verdict."""

import shutil
import xml.etree.ElementTree as xml

import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import EdgecrError, FileProblem
from edgecr.report.render.junit import write_junit
from edgecr.report.result import GateResult, Result, Status, Verdict

GATES = [
    GateResult("clean_accuracy", Status.PASS, "drop 0.10 points", "drop ≤ 1.00 points"),
    GateResult("latency_p50", Status.FAIL, 'ratio 0.90x on <b>&"x"\x1b[2J', "ratio ≤ 0.60x"),
    GateResult("size", Status.INCOMPLETE, "the candidate's figure is missing", "max ≤ 1.00 MB"),
]


def written(tmp_path, **values):
    write_junit(Result("parts", "parts-1", **values), tmp_path / "out" / "junit.xml")
    return xml.parse(tmp_path / "out" / "junit.xml").getroot()


def outcomes(suite):
    """The outcome of each test case, as a build server reads it."""
    bad = ("failure", "error", "skipped")
    return {
        case.get("name"): next((each.tag for each in case if each.tag in bad), "passed")
        for case in suite.iter("testcase")
    }


def properties(suite):
    return [(each.get("name"), each.get("value")) for each in suite.iter("property")]


def test_each_gate_is_a_case_and_only_a_pass_passes(tmp_path):
    suite = written(tmp_path, verdict=Verdict.DONT_SHIP, gates=GATES)
    assert outcomes(suite) == {
        "clean_accuracy: drop ≤ 1.00 points": "passed",
        "latency_p50: ratio ≤ 0.60x": "failure",
        "size: max ≤ 1.00 MB": "error",
    }
    assert [suite.get(name) for name in ("name", "tests", "failures", "errors", "skipped")] == [
        "parts-1",
        "3",
        "1",
        "1",
        "0",
    ]
    assert ("verdict", "DON'T SHIP") in properties(suite)


def test_text_is_escaped_and_steers_nothing(tmp_path):
    suite = written(tmp_path, verdict=Verdict.DONT_SHIP, gates=GATES)
    (failure,) = suite.iter("failure")
    assert failure.get("message") == 'FAIL: ratio 0.90x on <b>&"x"\\u001b[2J'


@pytest.mark.parametrize("gates", [[], GATES[:1]])
def test_a_verdict_that_no_gate_explains_is_an_error_of_its_own(tmp_path, gates):
    suite = written(tmp_path, verdict=Verdict.INCOMPLETE, gates=gates)
    assert outcomes(suite)["verdict"] == "error"
    assert (suite.get("tests"), suite.get("errors")) == (str(len(gates) + 1), "1")


def test_shipping_has_no_case_beyond_the_gates(tmp_path):
    suite = written(tmp_path, verdict=Verdict.SHIP, gates=GATES[:1])
    assert set(outcomes(suite).values()) == {"passed"}
    assert suite.get("tests") == "1"


def test_evidence_that_is_not_verified_is_named(tmp_path):
    suite = written(tmp_path, gates=GATES[2:], unverified={"run.json": "was changed"})
    assert ("not verified", "run.json was changed") in properties(suite)


def check(*words):
    return CliRunner().invoke(app, ["check", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def run(small_run, tmp_path):
    return shutil.copytree(small_run, tmp_path / small_run.name)


def test_the_command_writes_what_it_prints(run, tmp_path):
    file = tmp_path / "junit.xml"
    done = check(run, "--junit", file)
    assert done.exit_code == 0
    suite = xml.parse(file).getroot()
    assert ("verdict", "SHIP") in properties(suite)
    assert len(outcomes(suite)) == len(done.output.splitlines()) - 1
    (run / "measure/quick@onnx.json").unlink()
    assert check(run, "--junit", file).exit_code == 1
    suite = xml.parse(file).getroot()
    assert ("verdict", "INCOMPLETE") in properties(suite)
    assert "error" in outcomes(suite).values()
    assert [path.name for path in tmp_path.glob(".junit*")] == []


def test_a_run_that_cannot_be_judged_leaves_no_older_pass(tmp_path):
    file = tmp_path / "junit.xml"
    written(tmp_path, verdict=Verdict.SHIP, gates=GATES[:1])
    shutil.copy(tmp_path / "out" / "junit.xml", file)
    with pytest.raises(EdgecrError, match="does not exist"):
        check(tmp_path / "nowhere", "--junit", file)
    assert outcomes(xml.parse(file).getroot()) == {"verdict": "error"}


@pytest.mark.parametrize("place", ["folder", "file.txt/junit.xml"])
def test_a_path_that_cannot_be_written_is_a_wrong_request(run, tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(FileProblem, match="--junit") as caught:
        check(run, "--junit", tmp_path / place)
    assert caught.value.exit_code == 2
