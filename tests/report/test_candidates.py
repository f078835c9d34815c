"""Every target a candidate: each pair of target and device is judged by itself, and the run by all of them."""

import itertools
import json
import re
import xml.etree.ElementTree as xml
from dataclasses import replace
from typing import get_args

import pytest
from rich.console import Console

from edgecr.core.estimate import Estimate
from edgecr.recipe import Recipe
from edgecr.report.build import accuracy_rows, build_result
from edgecr.report.candidates import PREFERENCES, focus, run_verdict, views
from edgecr.report.compare import comparison_tables
from edgecr.report.gates.judge import Gate, reasons, verdict
from edgecr.report.render.html import comparison_html, html
from edgecr.report.render.junit import write_junit
from edgecr.report.render.markdown import markdown
from edgecr.report.render.terminal import render
from edgecr.report.result import CandidateRow, ExportRow, LatencyRow, ModelRow, Result, StepRow, Timing, Verdict
from edgecr.report.tables import candidate_table, gate_table, latency_table, tables
from tests.report.miniatures import answered

GATES = {"clean_accuracy": Gate(drop=0.02), "latency_p50": Gate(ratio=0.7)}
PRECISIONS = {"plain": "fp32", "half": "fp16", "small": "int8"}


def around(value, width=0.02):
    return Estimate(value, value * (1 - width), value * (1 + width), 0.95, "ms", 300)


def timed(target, device="cpu", ms=2.0, batch=1, baseline=4.0, **parts):
    """The candidate takes so long, its baseline 4 ms."""
    arms = {"baseline": Timing(around(baseline)), "candidate": Timing(around(ms))}
    ratio = ms / baseline
    ratios = {"p50": Estimate(ratio, ratio * 0.97, ratio * 1.03, 0.95)}
    return LatencyRow(device, batch, arms, ratios, evidence=[f"measure/{device}@{target}.json"], target=target, **parts)


def of_target(target, size=400_000, lost=0):
    """The parts of a result about a target, besides its latencies: both models, the exported candidate, answers."""
    models = [
        ModelRow(role, "resnet20", 1000, 9000, bytes_, target, [f"export/{target}/{role}"], f"export/{target}/{role}")
        for role, bytes_ in (("baseline", 1_000_000), ("candidate", size))
    ]
    file = ExportRow("candidate", target, "model.onnx", "onnx", PRECISIONS[target], size, "ab" * 32)
    answers = accuracy_rows(answered({"clean": lost, "fog": lost}), {})
    accuracy = [replace(row, target=target, evidence=[f"robustness/noise5@{target}"]) for row in answers]
    return {"models": models, "exports": [file], "accuracy": accuracy}


def built(*targets, latency, gates=GATES, **parts):
    """A result of several targets; the first parts of each come from ``of_target``."""
    found = {name: [row for each in targets for row in each[name]] for name in ("models", "exports", "accuracy")}
    return build_result(name="x", id="x-12345678", gates=gates, latency=latency, **found, **parts)


def verdicts(result):
    return {(row.target, row.device): row.verdict.value for row in result.candidates}


@pytest.fixture
def several():
    """Plain ships on both boards, half on one and is preferred there, small on none."""
    latency = [
        timed("plain", "cpu", 2.0),
        timed("plain", "board", 2.5),
        timed("half", "cpu", 3.5),
        timed("half", "board", 1.5),
        timed("small", "cpu", 2.2),
        timed("small", "board", 1.0),
    ]
    return built(of_target("plain"), of_target("half", 200_000), of_target("small", 100_000, 20), latency=latency)


def test_each_pair_is_judged_by_itself_and_one_target_a_device_is_enough(several):
    assert several.verdict is Verdict.SHIP
    assert several.exit_code == 0
    assert verdicts(several) == {
        ("plain", "cpu"): "SHIP",
        ("half", "cpu"): "DON'T SHIP",
        ("small", "cpu"): "DON'T SHIP",
        ("plain", "board"): "SHIP",
        ("half", "board"): "SHIP",
        ("small", "board"): "DON'T SHIP",
    }
    assert {(gate.target, gate.device) for gate in several.gates} == set(verdicts(several))
    assert len(several.gates) == 12


def test_the_reasons_name_the_file_the_device_and_the_preference(several):
    assert reasons(several) == [
        "on cpu ship plain (export/plain/candidate)",
        "on board ship half, preferred by latency (export/half/candidate); plain may ship too",
    ]


def row(target, device, found):
    return CandidateRow(target, device, Verdict(found))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("a:x SHIP", "SHIP"),
        ("a:x SHIP, b:x DON'T SHIP", "SHIP"),
        ("a:x SHIP, b:x INCOMPLETE", "SHIP"),
        ("a:x SHIP, b:y SHIP", "SHIP"),
        ("a:x SHIP, a:y DON'T SHIP, b:x DON'T SHIP, b:y SHIP", "SHIP"),
        ("a:x SHIP, a:y DON'T SHIP", "DON'T SHIP"),
        ("a:x SHIP, a:y DON'T SHIP, b:x SHIP, b:y INCOMPLETE", "DON'T SHIP"),
        ("a:x DON'T SHIP, b:x INCOMPLETE", "DON'T SHIP"),
        ("a:x INCOMPLETE, b:x INCOMPLETE", "INCOMPLETE"),
        ("a:x SHIP, a:y INCOMPLETE, b:x DON'T SHIP, b:y INCOMPLETE", "INCOMPLETE"),
        ("", "INCOMPLETE"),
    ],
)
def test_the_verdict_of_a_run(found, expected):
    rows = [row(*words.split(" ")[0].split(":"), words.partition(" ")[2]) for words in found.split(", ") if words]
    assert run_verdict(rows).value == expected


def test_one_target_is_judged_as_all_its_devices_together():
    """The rule for pairs says of one target what the gates over all its devices say."""
    fine, slow, gone = timed("plain"), timed("plain", ms=3.9), LatencyRow("cpu", 1, error="no answer", target="plain")
    gates = [GATES, {}, {"latency_p50": Gate(ratio=0.7, device="board")}, {"latency_p50": Gate(max=9, device="moon")}]
    for one, other, lost, declared in itertools.product((fine, slow, gone), (fine, slow, gone), (0, 20), gates):
        found = built(of_target("plain", lost=lost), latency=[one, replace(other, device="board")], gates=declared)
        assert not found.many
        assert found.verdict is verdict(found.gates) is run_verdict(found.candidates)
        assert {gate.target + gate.device for gate in found.gates} <= {""}
        assert not candidate_table(found).rows


def test_no_gates_prove_nothing():
    found = built(of_target("plain"), of_target("half"), latency=[timed("plain"), timed("half")], gates={})
    assert found.verdict is Verdict.INCOMPLETE
    assert set(verdicts(found).values()) == {"INCOMPLETE"}
    assert "no gates were declared" in reasons(found)[0]
    assert {line[2] for line in candidate_table(found).rows} == {"no gates were declared"}


def test_a_gate_of_one_device_is_about_that_device():
    latency = [timed("plain"), timed("half"), timed("plain", "board", 3.9), timed("half", "board", 3.9)]
    targets, limit = (of_target("plain"), of_target("half")), Gate(ratio=0.7, device="cpu")
    found = built(*targets, latency=latency, gates={"latency_p50": limit})
    assert found.verdict is Verdict.SHIP
    assert all("no gate is about this device" in each.remarks for each in found.candidates if each.device == "board")
    elsewhere = built(*targets, latency=latency, gates={"latency_p50": Gate(ratio=0.7, device="moon")})
    assert set(verdicts(elsewhere).values()) == {"INCOMPLETE"}
    assert all("moon" in each.why[0] for each in elsewhere.candidates)


def test_without_devices_the_targets_are_judged_all_the_same():
    found = built(of_target("plain"), of_target("half", lost=20), latency=[], gates={"clean_accuracy": Gate(drop=0.02)})
    assert verdicts(found) == {("plain", ""): "SHIP", ("half", ""): "DON'T SHIP"}
    assert reasons(found) == ["ship plain (export/plain/candidate)"]
    assert candidate_table(found).rows[0][5] == "not asked"
    assert set(verdicts(built(of_target("plain"), of_target("half"), latency=[])).values()) == {"INCOMPLETE"}


@pytest.mark.parametrize(("prefer", "first"), [("latency", "half"), ("size", "small"), ("accuracy", "plain")])
def test_what_is_preferred(prefer, first):
    targets = of_target("plain", 400_000, 0), of_target("half", 300_000, 2), of_target("small", 200_000, 1)
    latency = [timed("plain", ms=2.0), timed("half", ms=1.0), timed("small", ms=1.5)]
    found = built(*targets, latency=latency, prefer=prefer)
    chosen = [each for each in found.candidates if each.order == 1]
    assert [(each.target, each.ordered_by) for each in chosen] == [(first, prefer)]
    assert sorted(each.order for each in found.candidates) == [1, 2, 3]
    assert f"ship {first}, preferred by {prefer}" in reasons(found)[0]
    assert focus(found).targets == [first]


def test_a_preference_by_latency_looks_at_the_smallest_batch():
    latency = [timed("plain", ms=2.0), timed("half", ms=1.0), timed("plain", ms=5.0, batch=8)]
    latency.append(timed("half", ms=9.0, batch=8))
    gates = {"clean_accuracy": Gate(drop=0.02)}
    for rows in (latency, latency[::-1]):
        assert focus(built(of_target("plain"), of_target("half"), latency=rows, gates=gates)).targets == ["half"]


def test_every_preference_of_a_recipe_has_its_figure():
    assert get_args(Recipe.model_fields["prefer"].annotation) == tuple(PREFERENCES)


def test_only_what_may_ship_is_preferred():
    targets = of_target("plain"), of_target("half", lost=20)
    found = built(*targets, latency=[timed("plain"), timed("half", ms=0.5)])
    assert {each.target: each.order for each in found.candidates} == {"plain": 1, "half": 0}
    assert reasons(found) == ["on cpu ship plain (export/plain/candidate)"]


@pytest.mark.parametrize("doubtful", [{"partial": "1 of 3 launches"}, {"arms": {}}])
def test_a_latency_that_is_not_known_prefers_nothing(doubtful):
    gates = {"clean_accuracy": Gate(drop=0.02)}
    latency = [replace(timed("plain"), **doubtful), replace(timed("half", ms=0.5), **doubtful)]
    found = built(of_target("plain"), of_target("half"), latency=latency, gates=gates)
    assert "ship plain, the first in the recipe: no latency to compare" in reasons(found)[0]
    known = built(of_target("plain"), of_target("half"), latency=[latency[0], timed("half", ms=9.0)], gates=gates)
    assert "ship half, preferred by latency" in reasons(known)[0]


# Slower than a sibling


def test_fewer_bits_that_are_slower_are_told_first_and_in_their_row():
    latency = [
        timed("plain", ms=2.0),
        timed("small", ms=2.6),
        timed("plain", ms=16.0, batch=8),
        timed("small", ms=14, batch=8),
    ]
    found = built(of_target("plain"), of_target("small"), latency=latency)
    assert found.warnings[0].startswith(
        "small (int8) is slower than plain (fp32) on cpu: 1.30x of its median latency at batch 1; "
    )
    remarks = {each.target: each.remarks for each in found.candidates}
    assert remarks["small"] == ["slower than plain (fp32): 1.30x of its median latency at batch 1"]
    assert remarks["plain"] == ["slower than small (int8): 1.14x of its median latency at batch 8"]
    assert "slower than plain" in next(line for line in candidate_table(found).rows if line[0] == "small on cpu")[2]


def test_more_bits_that_are_slower_are_no_warning(several):
    plain = next(each for each in several.candidates if (each.target, each.device) == ("plain", "board"))
    assert plain.remarks == ["slower than small (int8): 2.50x of its median latency at batch 1"]
    assert not any(warning.startswith("plain") for warning in several.warnings)
    assert several.warnings[0].startswith("half (fp16) is slower than plain (fp32) on cpu")


@pytest.mark.parametrize(
    ("change", "unverified"),
    [
        ({"arms": {"candidate": Timing(around(2.6, 0.3))}}, {}),
        ({"arms": {"candidate": Timing(Estimate(2.6))}}, {}),
        ({"arms": {"candidate": Timing(Estimate(2.059, 2.05, 2.07, 0.95))}}, {}),
        ({"arms": {}}, {}),
        ({"partial": "1 of 3 launches"}, {}),
        ({"batch": 8}, {}),
        ({"device": "board"}, {}),
        ({}, {"measure/cpu@small.json": "was changed"}),
    ],
    ids=["wide", "no interval", "under a percent", "not measured", "partial", "other batch", "elsewhere", "changed"],
)
def test_what_is_not_surely_slower_is_not_called_slower(change, unverified):
    latency = [timed("plain", ms=2.04), replace(timed("small", ms=2.6), **change)]
    latency[0] = replace(latency[0], arms={"candidate": Timing(Estimate(2.04, 2.03, 2.045, 0.95))})
    found = built(of_target("plain"), of_target("small"), latency=latency, unverified=unverified)
    assert not any(each.remarks for each in found.candidates)
    assert not any("is slower than plain" in warning for warning in found.warnings)


@pytest.mark.parametrize(("ms", "idle"), [(2.0, True), (1.97, True), (1.95, False), (1.0, False), (2.6, False)])
def test_fewer_bits_that_bring_no_speed_are_told(ms, idle):
    """2.6 ms is slower, which is told in its own words."""
    found = built(of_target("plain"), of_target("small"), latency=[timed("plain", ms=2.0), timed("small", ms=ms)])
    told = [each for each in found.warnings if each.startswith("small (int8) gains no speed over plain (fp32) on cpu")]
    assert len(told) == idle


def test_fewer_bits_that_pay_at_one_batch_size_are_worth_it():
    latency = [timed("plain"), timed("small"), timed("plain", ms=16.0, batch=8), timed("small", ms=8.0, batch=8)]
    found = built(of_target("plain"), of_target("small"), latency=latency)
    assert not any("gains no speed" in each for each in found.warnings)


def test_speed_that_was_not_measured_on_both_is_not_missed():
    found = built(of_target("plain"), of_target("small"), latency=[timed("plain"), timed("small", batch=8)])
    assert not any("gains no speed" in each for each in found.warnings)


def test_siblings_of_one_precision_are_not_compared(monkeypatch):
    monkeypatch.setitem(PRECISIONS, "half", "fp32")
    found = built(of_target("plain"), of_target("half"), latency=[timed("plain"), timed("half", ms=2.6)])
    assert not any(each.remarks for each in found.candidates)


def test_other_formats_of_as_many_bits_are_compared_but_are_no_warning(monkeypatch):
    monkeypatch.setitem(PRECISIONS, "plain", "bf16")
    found = built(of_target("plain"), of_target("half"), latency=[timed("plain"), timed("half", ms=2.6)])
    assert [each.remarks for each in found.candidates if each.target == "half"] == [
        ["slower than plain (bf16): 1.30x of its median latency at batch 1"]
    ]
    assert not any("is slower than plain" in warning for warning in found.warnings)


# Evidence


@pytest.mark.parametrize(
    "file", ["export/half/candidate", "export/half/baseline", "measure/cpu@half.json", "robustness/noise5@half"]
)
def test_damage_to_one_target_leaves_the_other_unharmed(file):
    """Half is preferred until its evidence is doubtful."""
    targets, latency = (of_target("plain"), of_target("half")), [timed("plain"), timed("half", ms=1.0)]
    assert "ship half" in reasons(built(*targets, latency=latency))[0]
    found = built(*targets, latency=latency, unverified={file: "was changed"})
    assert verdicts(found) == {("plain", "cpu"): "SHIP", ("half", "cpu"): "INCOMPLETE"}
    assert reasons(found) == ["on cpu ship plain (export/plain/candidate)"]
    line = candidate_table(found).rows[1]
    assert line[1] == "INCOMPLETE"
    assert f"{file} was changed" in line[2]


def test_no_target_ships_on_a_changed_question():
    rows = of_target("plain"), of_target("half")
    for each in rows:
        each["models"] = [replace(model, evidence=[*model.evidence, "run.json"]) for model in each["models"]]
    gates = {"latency_p50": Gate(ratio=0.7, device="cpu")}
    latency = [timed(target, device) for target in ("plain", "half") for device in ("cpu", "board")]
    found = built(*rows, latency=latency, unverified={"run.json": "was changed"}, gates=gates)
    assert set(verdicts(found).values()) == {"INCOMPLETE"}
    assert found.verdict is Verdict.INCOMPLETE
    assert all("run.json was changed" in each.why[0] for each in found.candidates)


def test_a_budget_rests_on_each_targets_own_file():
    step = StepRow("prune", budgets={"macs": (100, 90)}, evidence=["plan.json"])
    parts = {"steps": [step], "gates": {"budget": Gate(ratio=1.0)}, "latency": [timed("plain"), timed("half")]}
    targets = of_target("plain"), of_target("half")
    assert set(verdicts(built(*targets, **parts)).values()) == {"SHIP"}
    changed = {"export/half/candidate": "was changed"}
    assert verdicts(built(*targets, **parts, unverified=changed)) == {
        ("plain", "cpu"): "SHIP",
        ("half", "cpu"): "INCOMPLETE",
    }
    plan = built(*targets, **parts, unverified={"plan.json": "was changed"})
    assert set(verdicts(plan).values()) == {"INCOMPLETE"}


def test_a_missing_figure_reads_incomplete_and_no_number():
    latency = [timed("plain"), LatencyRow("cpu", 1, error="no answer", target="half")]
    second = of_target("half")
    second["accuracy"] = [replace(each, baseline=None, candidate=None, delta=None) for each in second["accuracy"]]
    second["models"] = [replace(each, size_bytes=None) for each in second["models"]]
    found = built(of_target("plain"), second, latency=latency)
    name, shown, _, *figures = candidate_table(found).rows[1]
    assert (name, shown) == ("half on cpu", "INCOMPLETE")
    assert [re.sub(" [¹²]", "", each) for each in figures] == ["INCOMPLETE"] * 4


def test_the_worst_batch_size_and_the_worst_suite_are_shown():
    latency = [timed("plain"), timed("half", ms=1.0), timed("half", ms=14.0, batch=8, baseline=20.0)]
    found = built(of_target("plain"), of_target("half", lost=4), latency=latency)
    half = next(each for each in found.candidates if each.target == "half")
    assert (half.batch, round(half.latency.value, 2)) == (8, 0.7)
    assert (half.suite, round(half.suite_delta.value, 4)) == ("noise5", -0.004)


def test_of_several_suites_the_one_that_lost_most_is_shown():
    parts = of_target("plain", lost=4)
    worse = [replace(row, suite="rain", target="plain") for row in accuracy_rows(answered({"fog": 40}), {})]
    for rows in ([*parts["accuracy"], *worse], [*worse, *parts["accuracy"]]):
        found = built(parts | {"accuracy": rows}, of_target("half"), latency=[])
        assert found.candidates[0].suite == "rain"
        assert round(found.candidates[0].suite_delta.value, 4) == -0.04


def test_doubts_stand_beside_the_latency():
    latency = [timed("plain", doubts=["the clock was not fixed"]), timed("half")]
    table = candidate_table(built(of_target("plain"), of_target("half"), latency=latency))
    assert [line[5][-1] for line in table.rows] == ["¹", ")"]
    assert table.doubts == ("¹ the clock was not fixed",)


# What is written


def test_json_round_trip_and_what_stands_in_it(several, tmp_path):
    several.save(tmp_path / "report.json")
    assert Result.load(tmp_path / "report.json") == several
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["schema"] == 2
    first = values["candidates"][0]
    assert (first["target"], first["device"], first["verdict"], first["order"]) == ("plain", "cpu", "SHIP", 1)
    assert first["latency"]["value"] == pytest.approx(0.5)


def test_every_figure_names_its_target(several):
    assert {line[1] for line in gate_table(several).rows} == {
        f"{target} on {device}" for target, device in verdicts(several)
    }
    assert latency_table(several).rows[0][0] == "plain on cpu, batch 1"
    titles = [table.title for table in tables(several)]
    assert titles[0] == "Candidates"
    assert [title for title in titles if title.startswith("Accuracy")] == [
        f"Accuracy, suite noise5, {target}" for target in PRECISIONS
    ]
    assert len(titles) == len(set(titles))
    assert [view.targets for view in views(several)] == [["plain"], ["half"], ["small"]]


def test_the_first_screen_of_the_page_answers_which_file_where_and_why_not_the_others(several):
    page = html(several)
    header, table, warning = page.index("on board ship half"), page.index("<h2>Candidates"), page.index("Warning ")
    assert header < table < warning < page.index('class="tiles"') < page.index("<h2>Gates")
    assert page.count("FAIL clean_accuracy (needs drop") == 2
    assert "DON&#x27;T SHIP" in page[table:]


@pytest.mark.parametrize("width", [60, 140])
def test_the_terminal_ends_with_the_table_and_the_verdict(several, width):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(render(several))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    assert 0 < text.index("Gates\n") < text.index("Candidates\n") < text.index("on board ship half")


def test_markdown_opens_with_the_table(several):
    text = markdown(several).replace("\\", "")
    assert text.index("# x: SHIP") < text.index("on board ship half") < text.index("## Candidates")
    assert text.index("## Candidates") < text.index("plain on cpu:") < text.index("## Gates")
    assert "| small on board | DON'T SHIP | FAIL clean_accuracy (needs drop ≤ 2.00 points) |" in text


def test_a_comparison_has_a_column_for_each_target(several):
    other = built(of_target("plain", 300_000), latency=[timed("plain")])
    table = comparison_tables([several, other])[0]
    assert table.head == ("", *(f"x (12345678): {target}" for target in PRECISIONS), "x (12345678)")
    lines = {line[0]: line[1:] for line in table.rows}
    assert lines["verdict"] == ("SHIP", "DON'T SHIP", "DON'T SHIP", "SHIP")
    assert lines["verdict of the run"] == ("SHIP",) * 4
    assert lines["file"][:2] == ("0.400 MB", "0.200 MB (0.50x)")
    assert "x: half" in comparison_html([several, other])
    alone = comparison_tables([other, other])[0]
    assert [line[0] for line in alone.rows if "verdict" in line[0]] == ["verdict"]


# For build servers


def suites_of(result, tmp_path):
    write_junit(result, tmp_path / "junit.xml")
    root = xml.parse(tmp_path / "junit.xml").getroot()
    return root, {suite.get("name"): suite for suite in root.iter("testsuite")}


def counts(suite):
    return tuple(int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped"))


def test_a_suite_for_each_pair_and_what_no_shipping_needs_is_skipped(several, tmp_path):
    root, suites = suites_of(several, tmp_path)
    assert root.tag == "testsuites"
    assert list(suites) == [
        "x-12345678",
        *(f"x-12345678: {target} on {device}" for target, device in verdicts(several)),
    ]
    assert counts(root) == (14, 0, 0, 3)
    assert counts(suites["x-12345678: small on cpu"]) == (2, 0, 0, 1)
    (skipped,) = suites["x-12345678: small on cpu"].iter("skipped")
    assert skipped.get("message").startswith("FAIL: drop 10.00 points")
    assert [case.get("name") for case in suites["x-12345678"].iter("testcase")] == [
        "a target ships on cpu",
        "a target ships on board",
    ]


def test_a_device_where_no_target_ships_breaks_the_build(tmp_path):
    latency = [timed("plain"), timed("half"), timed("plain", "board", 3.9), timed("half", "board", 2.0)]
    targets = of_target("plain"), of_target("half")
    found = built(*targets, latency=latency, unverified={"measure/board@half.json": "was changed"})
    assert found.verdict is Verdict.DONT_SHIP
    root, suites = suites_of(found, tmp_path)
    assert counts(suites["x-12345678"]) == (2, 1, 0, 0)
    assert counts(suites["x-12345678: plain on board"]) == (2, 1, 0, 0)
    assert counts(suites["x-12345678: half on board"]) == (2, 0, 1, 0)
    assert counts(suites["x-12345678: half on cpu"]) == (2, 0, 0, 0)
    named = {name: [each.get("value") for each in suite.iter("property")] for name, suite in suites.items()}
    assert "measure/board@half.json was changed" in named["x-12345678: half on board"]
    assert named["x-12345678: half on cpu"] == ["SHIP"]
    assert counts(root)[1:] == (2, 1, 0)


def test_missing_evidence_everywhere_is_an_error(tmp_path):
    gone = [LatencyRow("cpu", 1, error="no answer", target=target) for target in ("plain", "half")]
    found = built(of_target("plain"), of_target("half"), latency=gone)
    assert found.verdict is Verdict.INCOMPLETE
    _, suites = suites_of(found, tmp_path)
    assert counts(suites["x-12345678"]) == (1, 0, 1, 0)
    assert reasons(found) == ["on cpu no target may ship: plain: INCOMPLETE; half: INCOMPLETE"]
