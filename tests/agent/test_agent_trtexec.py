"""Runs of trtexec on the board: in the work folder, with their counters, and stopped when they take too long."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

KEY, TIMING = "a" * 64, "b" * 64
SCRIPT = """#!{python}
import sys, time
arguments = dict(one[2:].split("=", 1) for one in sys.argv[1:] if "=" in one)
print("said", *sys.argv[1:], flush=True)
print("an error", file=sys.stderr, flush=True)
if "sleep" in arguments:
    time.sleep(float(arguments["sleep"]))
if "saveEngine" in arguments:
    open(arguments["saveEngine"], "w").write("engine %s" % time.time())
    open(arguments["timingCacheFile"], "a").write("t")
if "exportTimes" in arguments:
    open(arguments["exportTimes"], "w").write("[]")
sys.exit(int(arguments.get("code", "0")))
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tool = tmp_path / "bin" / "trtexec"
    tool.parent.mkdir()
    tool.write_text(SCRIPT.format(python=sys.executable))
    tool.chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def perform(agent, work: Path):
    def perform(op: str, *argv: str, **fields) -> dict:
        told: list = []
        request = {
            "op": op,
            "tool": str(work.parent / "bin" / "trtexec"),
            "argv": list(argv),
            "fetch": [],
            "timeout_s": 30,
        }
        engine = {"engine": "m/model.engine", "timing_cache": "m/timing.cache", "key": KEY, "timing": TIMING,
                  "cache": True, "anew": False, "budget_mb": 10}  # fmt: skip
        found = agent("trtexec").perform(
            request | (engine if op == "engine" else {}) | fields,
            str(work),
            agent("children").Children(),
            lambda event, **facts: told.append((event, facts)),
            lambda: False,
        )
        return found | {"told": told}

    return perform


BUILD = ("--saveEngine=@m/model.engine", "--timingCacheFile=@m/timing.cache")


def test_a_run_tells_what_it_took_and_returns_its_files(perform, work: Path) -> None:
    done = perform("trtexec", "--exportTimes=@m/times.json", "--shapes=x:1x3", fetch=["m/times.json", "m/none.json"])
    assert done["files"] == {"m/times.json": "[]", "m/none.json": None}
    assert done["log"].splitlines() == [f"said --exportTimes={work}/m/times.json --shapes=x:1x3", "an error"]
    assert done["code"] == 0
    program = done["program"]
    assert 0 < program["run_ns"] <= program["elapsed_ns"] * os.cpu_count()
    assert program["switches"] >= 0


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "m/../../x", ""])
def test_no_argument_leads_out_of_the_work_folder(perform, agent, name: str) -> None:
    with pytest.raises(agent("inbox").BadName):
        perform("trtexec", f"--exportTimes=@{name}")


def test_a_run_that_takes_too_long_is_ended(perform) -> None:
    start = time.monotonic()
    done = perform("trtexec", "--sleep=60", timeout_s=0.3)
    assert done["late"]
    assert done["code"] < 0
    assert time.monotonic() - start < 20


def test_a_long_run_gives_signs_of_life(perform, agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent("trtexec"), "TOLD_S", 0.1)
    told = perform("trtexec", "--sleep=0.6")["told"]
    assert len(told) >= 2
    assert {event for event, _ in told} == {"running"}
    assert told[-1][1]["text"] == "an error"


def test_an_engine_is_built_once_and_the_timings_are_handed_on(perform, work: Path) -> None:
    first = perform("engine", *BUILD)
    (work / "m" / "model.engine").unlink()
    again = perform("engine", *BUILD)
    assert (first["cached"], again["cached"]) == (False, True)
    same = ("sha256", "seconds", "log_sha256", "log", "size")
    assert [again[name] for name in same] == [first[name] for name in same]
    assert (work / "m" / "model.engine").stat().st_size == first["size"]
    (work / "m" / "timing.cache").unlink()
    other = perform("engine", *BUILD, key="c" * 64)
    assert not other["cached"]
    assert (work / "m" / "timing.cache").read_text() == "tt"
    anew = perform("engine", *BUILD, anew=True)
    assert not anew["cached"]
    assert perform("engine", *BUILD)["sha256"] == anew["sha256"]


def test_without_a_cache_nothing_is_kept(perform, work: Path) -> None:
    assert not perform("engine", *BUILD, cache=False)["cached"]
    assert not perform("engine", *BUILD, cache=False)["cached"]
    assert not (work.parent / "cache").exists()


def test_a_cache_that_others_can_write_is_not_used_and_said(perform, work: Path) -> None:
    (work.parent / "cache" / "edgecr-board").mkdir(parents=True)
    (work.parent / "cache" / "edgecr-board").chmod(0o777)
    done = perform("engine", *BUILD)
    assert "is open to other users" in done["notes"][0]
    assert len(done["notes"]) == 1
    assert done["size"] > 0


def test_an_engine_whose_record_is_lost_is_built_again(perform, work: Path) -> None:
    perform("engine", *BUILD)
    for entry in (work.parent / "cache" / "edgecr-board" / "engines").iterdir():
        if entry.read_text().startswith("{"):
            entry.unlink()
    assert not perform("engine", *BUILD)["cached"]


def test_a_build_that_fails_tells_the_boards_memory_and_is_not_kept(perform) -> None:
    done = perform("engine", "--code=3")
    assert (done["code"], done["cached"]) == (3, False)
    assert done["memory"]["MemTotal"] > 0
    assert not perform("engine", *BUILD)["cached"]


def test_a_tool_that_is_not_there(perform, agent, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(agent("trtexec").ToolProblem, match=r"correct runtimes\.tensorrt\.tool"):
        perform("trtexec", tool="/nowhere/trtexec")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(agent("trtexec").ToolProblem, match="It is usually /usr/src/tensorrt/bin/trtexec"):
        perform("trtexec", tool=None)


def test_a_file_of_times_that_would_choke_the_host_is_refused(perform, agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent("trtexec"), "MOST_FILE", 1)
    with pytest.raises(agent("trtexec").ToolProblem, match=r"lower protocol\.round_s"):
        perform("trtexec", "--exportTimes=@m/times.json", fetch=["m/times.json"])
