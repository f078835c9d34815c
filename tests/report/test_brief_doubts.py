"""The doubts on top of a report: each once, in a sentence; every word stands below the table."""

from edgecr.report.headline import key_figures
from edgecr.report.latency_rows import latency_rows
from edgecr.report.tables import latency_table
from edgecr.runners.fitness import stop_them
from tests.report.miniatures import result
from tests.report.test_doubts import measured

BUSY = "board is busy (3.5 of 4 cores): absolute latencies may be left out. Stop these programs first: x (pid 77)."


def doubts(**how):
    found = result(latency=latency_rows(measured(**how)))
    (speed,) = (each for each in key_figures(found) if each.label == "median latency")
    return speed.doubts, " ".join(latency_table(found).doubts)


def test_a_shared_processor_is_one_doubt_of_both_roles():
    brief, full = doubts(wait=0.5)
    said = "baseline and candidate: The CPU was shared (run-queue wait 50 %); more below the table of speeds"
    assert brief == (said,)
    assert "Absolute latencies are not reported" in full


def test_what_to_stop_stands_below_the_table_only():
    brief, full = doubts(wait=0.5, warnings=(BUSY,))
    assert len(brief) == 2
    assert brief[0] == "board is busy (3.5 of 4 cores): absolute latencies may be left out"
    assert not any("pid" in text or "Stop" in text for text in brief)
    assert "pid 77" in full


def test_a_short_doubt_is_told_whole():
    assert doubts(warnings=("Clocks are capped at 1.0 GHz.",))[0] == ("Clocks are capped at 1.0 GHz.",)
    assert doubts()[0] == ()


def test_nothing_is_to_be_stopped_where_no_program_stood_out():
    assert stop_them({"busiest": []}) == "No single program stood out."
    busiest = [{"name": "x", "pid": 7, "share": 0.5}]
    assert stop_them({"busiest": busiest}) == "Stop these programs first: x (pid 7, 50% of a core)."
