"""The doubts that a measurement records, as a reader of the report finds them."""

import re
from dataclasses import replace

import pytest
from rich.console import Console

from edgecr.core.estimate import Estimate
from edgecr.report.compare import comparison_tables
from edgecr.report.doubts import Marks, about_figure, about_place, unmarked
from edgecr.report.gates.judge import Gate, judge
from edgecr.report.headline import ideal_vs_measured, key_figures
from edgecr.report.latency_rows import latency_rows
from edgecr.report.render.html import html
from edgecr.report.render.markdown import markdown
from edgecr.report.render.terminal import render
from edgecr.report.result import LatencyRow, ModelRow, Result
from edgecr.report.tables import latency_table, tables
from edgecr.runners.device import Device
from edgecr.runners.measurement.record import Alone, Launch, MeasuredArm, Measurement, Rate, Round, Start, Warmth
from tests.report.miniatures import answered, latency, result, timing

MS = 1_000_000


def device():
    return Device.parse(
        {
            "name": "board",
            "purpose": "tests",
            "kind": "cpu",
            "transport": {"kind": "local"},
            "protocol": {"launches": 3, "throughput": {"seconds": 1.0}},
        }
    )


def measured(*, wait=0.0, slope=0.0, steady=True, warnings=(), launches=3):
    """Both roles timed in turns; the candidate takes half of the baseline's time."""

    def turn(arm, number):
        ns = int((10, 5)[arm] * MS * (1 + slope * number / 30))
        return Round(
            arm=arm,
            number=number,
            start_ns=0,
            ns=(ns,) * 4,
            run_ns=4 * ns,
            wait_ns=int(4 * ns * wait / (1 - wait)),
            switches=0,
            steal=0,
        )

    kilobytes = {"empty": 0, "imported": 50_000, "loaded": 60_000, "inferred": 102_400}
    starts = [Start(arm=arm, import_ns=1, load_ns=7, first_ns=9, memory_kb=kilobytes, info={}) for arm in (0, 1)]
    launch = Launch(
        starts=tuple(starts),
        rounds=tuple(turn(arm, number) for number in range(30) for arm in (0, 1)),
        warmups=tuple(Warmth(arm=arm, steady=steady, calls=9, medians_ns=(1,)) for arm in (0, 1)),
    )
    rates = [
        Rate(
            arm=arm, streams=1, calls=100, elapsed_ns=10**9, run_ns=10**9, wait_ns=int(wait * 1e9), switches=0, steal=0
        )
        for arm in (0, 1)
    ]
    arms = [
        MeasuredArm(label=label, file="m.onnx", sha256="0", size_bytes=1, runtime="ort", batch=1)
        for label in ("baseline", "candidate")
    ]
    return Measurement(
        device=device(),
        seed=0,
        arms=tuple(arms),
        launches=(launch,) * launches,
        warnings=warnings,
        alone=tuple(Alone(start=one, rates=(rate,)) for one, rate in zip(starts, rates)),
    )


def shown(one):
    """The report in every form, each as plain text without the breaks that a line makes."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(render(one))
    page = re.sub(r"<[^>]+>", " ", html(one))
    return {
        "terminal": flat(re.sub("│", " ", capture.get())),
        "markdown": flat(markdown(one).replace("\\", "")),
        "html": flat(page),
        "json": str(one.plain()),
    }


def flat(text):
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize(
    ("extra", "doubt"),
    [
        ({"slope": 0.3}, "drifted by"),
        ({"steady": False}, "not steady after warm-up in 3 of 3 launches"),
        ({"wait": 0.5}, "run-queue wait 50 %"),
        ({"warnings": ("Clocks are capped at 1.0 GHz.",)}, "Clocks are capped at 1.0 GHz."),
        ({"launches": 1}, "p99 needs at least 1000 samples, there are 120"),
    ],
)
def test_every_doubt_reaches_every_form_of_the_report(extra, doubt):
    clean, doubted = (shown(result(latency=latency_rows(measured(**more)))) for more in ({}, extra))
    for form, text in doubted.items():
        assert doubt in text, form
        assert doubt not in clean[form], form


def test_the_mark_stands_beside_the_figures_that_it_concerns():
    table = latency_table(result(latency=latency_rows(measured(steady=False))))
    cells = dict(zip(table.head, table.rows[0]))
    assert [name for name, cell in cells.items() if cell.endswith("¹")] == ["p50", "p90"]
    assert cells["p99"].startswith("INCOMPLETE ²")
    assert table.doubts[0].startswith("¹ not steady")
    assert table.doubts[1].startswith("² p99 needs at least 1000 samples")


def test_a_doubt_about_the_board_stands_beside_its_name():
    table = latency_table(result(latency=latency_rows(measured(warnings=("Hot.",)))))
    assert [row[0] for row in table.rows] == ["board, batch 1 ¹"] * 3


def test_a_contended_measurement_does_not_read_too_few_samples():
    gates = {name: Gate(max=100.0) for name in ("latency_p50", "latency_p90")} | {"throughput": Gate(min=1.0)}
    found = result(latency=latency_rows(measured(wait=0.5)))
    judged = judge(gates, found)
    assert [each.status.value for each in judged] == ["INCOMPLETE"] * 3
    assert all("run-queue wait" in each.text for each in judged)
    assert not any("too few" in text for text in shown(found).values())
    assert judge({"latency_p50": Gate(ratio=0.6)}, found)[0].status.value == "PASS"
    assert next(each for each in key_figures(found) if each.label == "median latency").value == "0.50x [0.50, 0.50]"


def test_cpu_time_and_its_paired_ratio_are_shown():
    table = latency_table(result(latency=latency_rows(measured())))
    column = [row[table.head.index("CPU time")] for row in table.rows]
    assert column == ["10.0 ms [10.0, 10.0]", "5.00 ms [5.00, 5.00]", "0.50x [0.50, 0.50]"]


def test_a_gate_of_100_mb_does_not_let_100_mebibytes_pass():
    found = result(latency=latency_rows(measured()))
    judged = judge({"memory": Gate(max=100.0)}, found)[0]
    assert judged.value == pytest.approx(104.8576)
    assert judged.status.value == "FAIL"


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (Estimate(0.5, 0.45, 0.55, 0.95), "faster"),
        (Estimate(1.2, 1.1, 1.3, 0.95), "slower"),
        (Estimate(0.98, 0.95, 1.01, 0.95), "no difference is claimed"),
        (Estimate(0.995, 0.994, 0.996, 0.95), "no difference is claimed"),
        (Estimate(1.009, 1.008, 1.0095, 0.95), "no difference is claimed"),
        (Estimate(0.5), "nothing is claimed without an interval"),
    ],
)
def test_one_rule_decides_what_is_claimed(ratio, said):
    models = [ModelRow("baseline", "net", 10, 100), ModelRow("candidate", "net", 5, 50)]
    found = result(latency=[replace(latency(), ratios={"p50": ratio})], models=models)
    assert latency_table(found).rows[-1][1] == f"ratio: {said}"
    speed = next(each for each in key_figures(found) if each.label == "median latency")
    claimed = said in ("faster", "slower")
    assert ("claimed" in speed.detail) is not claimed
    assert ("claimed" in ideal_vs_measured(found)) is not claimed


def test_unverified_files_and_partial_measurements_stand_on_top():
    row = replace(latency(), partial="1 of 3 launches")
    found = replace(result(latency=[row]), unverified={"exports/model.onnx": "was changed"})
    for form, text in shown(found).items():
        assert "exports/model.onnx" in text, form
        assert "was changed" in text, form
        assert "1 of 3 launches" in text, form
        if form != "json":
            assert text.index("exports/model.onnx") < text.index("Speed on the device"), form
            assert text.index("Not complete") < text.index("Speed on the device"), form
    assert "wrote" not in shown(result())["html"]


def test_doubts_show_when_runs_are_compared():
    found = result(latency=latency_rows(measured(steady=False, warnings=("Hot.",))))
    table = comparison_tables([found, found])[0]
    latencies = next(row for row in table.rows if row[0].startswith("median latency"))
    assert all(cell.endswith("¹ ²") for cell in latencies[1:])
    assert [text[2:5] for text in table.doubts] == ["Hot", "not"]
    assert "no difference is claimed" in table.note


def test_doubts_survive_the_file(tmp_path):
    found = result(latency=latency_rows(measured(steady=False, warnings=("Hot.",))), robustness=[answered({})])
    found.save(tmp_path / "report.json")
    read = Result.load(tmp_path / "report.json")
    assert read == found
    assert read.latency[0].doubts == ["Hot."]
    assert "not steady" in read.latency[0].arms["candidate"].doubts[0]
    assert "p99" in read.latency[0].arms["candidate"].missing


def test_marks_number_texts_once_and_are_told_apart_from_cells():
    marks = Marks()
    assert marks.beside("INCOMPLETE", ["a", "b", "a"]) == "INCOMPLETE ¹ ²"
    assert marks.beside("x", []) == "x"
    assert marks.beside("y", ["b"]) == "y ²"
    assert marks.notes == ("¹ a", "² b")
    assert unmarked("INCOMPLETE ¹ ²") == ("INCOMPLETE", " ¹ ²")
    many = Marks()
    assert many.beside("z", [str(number) for number in range(10)]).endswith(" ¹\N{SUPERSCRIPT ZERO}")


def test_a_missing_figure_keeps_its_badge_beside_the_mark():
    found = result(latency=[replace(latency(), arms={"candidate": replace(timing(1.0), missing={"p99": "few"})})])
    assert re.search(r'<span class="badge open">INCOMPLETE</span> ¹', html(found))
    assert any(table.doubts == ("¹ few",) for table in tables(found))


@pytest.mark.parametrize("field", ["p50", "p90", "p99"])
def test_a_doubt_about_the_launches_concerns_every_percentile(field):
    arm = replace(timing(4.0, Estimate(9.0)), doubts=["not steady"])
    row = replace(latency(), arms={"candidate": arm})
    assert about_figure(row, "candidate", field) == ["not steady"]
    assert about_figure(row, "candidate", "memory") == []


def test_an_error_is_told_once():
    row = LatencyRow("board", 1, error="The board went away.", partial="The board went away; 1 of 3 launches")
    assert about_place(row) == ["not complete: The board went away; 1 of 3 launches"]


def test_a_device_that_failed_says_why_beside_its_name():
    table = latency_table(result(latency=[LatencyRow("board", None, error="no answer")]))
    assert table.rows[0][:2] == ("board ¹", "no figures")
    assert table.doubts == ("¹ no answer",)
