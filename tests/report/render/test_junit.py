"""The file for a build server: what it says when candidates differ, when judging ends early, where it cannot be."""

import xml.etree.ElementTree as xml
from dataclasses import replace

import pytest

from edgecr.core.errors import EdgecrError, FileProblem
from edgecr.report.candidates import run_verdict
from edgecr.report.render.junit import junit_file
from edgecr.report.result import CandidateRow, GateResult, Result, Status, Verdict

STATUS = {Verdict.SHIP: Status.PASS, Verdict.DONT_SHIP: Status.FAIL, Verdict.INCOMPLETE: Status.INCOMPLETE}


def candidate(verdict, name="a"):
    gate = GateResult("size", STATUS[verdict], "0.5 MB", "max ≤ 1 MB")
    return Result(name, "x", verdict=verdict, gates=[gate])


def read(path):
    root = xml.parse(path).getroot()
    verdict = {one.get("name"): one.get("value") for one in root.iter("property")}.get("verdict")
    wrong = ("failure", "error")
    return verdict, [case for case in root.iter("testcase") if all(case.find(kind) is None for kind in wrong)]


@pytest.mark.parametrize("first", list(Verdict))
@pytest.mark.parametrize("second", list(Verdict))
@pytest.mark.parametrize("third", list(Verdict))
def test_several_candidates_have_the_verdict_of_a_run(tmp_path, first, second, third):
    verdicts = [first, second, third]
    with junit_file(tmp_path / "j", "x") as tell:
        tell([candidate(verdict, str(number)) for number, verdict in enumerate(verdicts)])
    expected = run_verdict([CandidateRow(str(number), "cpu", one) for number, one in enumerate(verdicts)])
    verdict, passed = read(tmp_path / "j")
    assert verdict == expected.value
    assert bool(passed) == (expected is Verdict.SHIP)


@pytest.mark.parametrize("end", [KeyboardInterrupt, KeyError, EdgecrError, SystemExit])
def test_whatever_ends_judging_no_older_pass_is_left(tmp_path, end):
    with junit_file(tmp_path / "j", "x") as tell:
        tell([candidate(Verdict.SHIP)])
    assert read(tmp_path / "j")[1]
    with pytest.raises(end), junit_file(tmp_path / "j", "x"):
        raise end("the reason")
    verdict, passed = read(tmp_path / "j")
    assert (verdict, passed) == (None, [])
    assert ("the reason" in (tmp_path / "j").read_text()) == (end is EdgecrError)


@pytest.mark.parametrize(("place", "why"), [("file/j", "no folder"), ("a" * 300, "too long"), ("", "a folder is")])
def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path, place, why):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileProblem, match=why) as refused, junit_file(tmp_path / place, "x"):
        raise AssertionError("the work has begun")
    assert "Name a file in a folder that you may write to" in str(refused.value)
    assert "continues where it stopped" not in str(refused.value)


def test_a_name_of_254_characters_can_be_written(tmp_path):
    with junit_file(tmp_path / ("j" * 254), "x") as tell:
        tell([replace(candidate(Verdict.SHIP), name="b")])
    assert read(tmp_path / ("j" * 254))[0] == "SHIP"
