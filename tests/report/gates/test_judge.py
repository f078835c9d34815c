import subprocess
import sys
from dataclasses import replace

import pytest
from pydantic import ValidationError

from edgecr.core.errors import RequestError, UnknownName
from edgecr.core.estimate import Estimate
from edgecr.report.build import accuracy_rows, build_result
from edgecr.report.gates.judge import Gate, check_confidence, check_gate_name, judge, level, reasons, verdict
from edgecr.report.latency_rows import latency_rows
from edgecr.report.result import AccuracyRow, GateResult, LatencyRow, Result, Status, Verdict
from tests.report.miniatures import answered, latency, models, result, timing
from tests.runners.measurement.test_summary import measurement as session


def status(name, gate, **parts):
    judged = judge({name: gate}, result(**parts))
    assert len(judged) == 1
    return judged[0].status.value


def test_declarations_need_no_heavy_library():
    code = (
        "import sys, edgecr.report.gates.judge; "
        "print([m for m in ('torch', 'numpy', 'albumentations', 'PIL', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("lost", "gate", "expected"),
    [
        (2, {"drop": 0.01}, "PASS"),  # exactly the limit
        (3, {"drop": 0.01}, "FAIL"),
        (0, {"drop": 0.0}, "PASS"),
        (1, {"drop": 0.0}, "FAIL"),
        (0, {"drop": 0.01, "confidence": 0.95}, "FAIL"),  # 200 images cannot show so little
        (0, {"drop": 0.03, "confidence": 0.95}, "PASS"),
        (20, {"min": 0.9}, "PASS"),
        (21, {"min": 0.9}, "FAIL"),
        (20, {"min": 0.9, "confidence": 0.95}, "FAIL"),
    ],
)
def test_clean_accuracy(lost, gate, expected):
    declared = {"clean_accuracy": Gate(**gate)}
    judged = build_result(name="x", id="x", gates=declared, robustness=[answered({"clean": lost})]).gates
    assert [each.status.value for each in judged] == [expected]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("noise5_fog_accuracy", "FAIL"),
        ("noise5_iso_accuracy", "PASS"),
        ("noise5_accuracy", "PASS"),
    ],
)
def test_a_corruption_and_the_suite_mean(name, expected):
    assert status(name, Gate(drop=0.05), robustness=[answered({"fog": 30})]) == expected


@pytest.mark.parametrize(
    ("ratio", "gate", "expected"),
    [
        (0.7, {"ratio": 0.7}, "PASS"),
        (0.71, {"ratio": 0.7}, "FAIL"),
        (0.68, {"ratio": 0.7, "confidence": 0.95}, "FAIL"),
        (0.6, {"ratio": 0.7, "confidence": 0.95}, "PASS"),
        (0.6, {"ratio": 0.7, "confidence": 0.9}, "PASS"),
        (0.6, {"ratio": 0.7, "confidence": 0.99}, "INCOMPLETE"),  # the interval is of 95 % only
        (0.9, {"ratio": 0.7, "confidence": 0.99}, "FAIL"),  # no interval can mend the point estimate
        (0.5, {"max": 2.0}, "PASS"),
        (0.5, {"max": 2.0, "confidence": 0.95}, "FAIL"),
        (0.5, {"ratio": 0.7, "device": "jetson"}, "INCOMPLETE"),
        (0.5, {"ratio": 0.7, "batch": 64}, "INCOMPLETE"),
        (0.5, {"ratio": 0.7, "device": "cpu", "batch": 1}, "PASS"),
    ],
)
def test_latency(ratio, gate, expected):
    assert status("latency_p50", Gate(**gate), latency=[latency(ratio)]) == expected


def test_every_measured_place_must_hold():
    rows = [latency(0.5), latency(0.9, batch=64), LatencyRow("jetson", None, error="no answer")]
    judged = judge({"latency_p50": Gate(ratio=0.7)}, result(latency=rows))[0]
    assert judged.status is Status.FAIL
    assert "batch 64 (worst of 3)" in judged.text
    rows = [latency(0.5), LatencyRow("jetson", None, error="no answer")]
    judged = judge({"latency_p50": Gate(ratio=0.7)}, result(latency=rows))[0]
    assert judged.status is Status.INCOMPLETE
    assert "no answer" in judged.text
    assert status("latency_p50", Gate(ratio=0.7, device="cpu"), latency=rows) == "PASS"


def test_a_device_that_failed_at_every_batch_size_is_what_a_gate_of_one_is_about():
    failed = LatencyRow("jetson", None, error="no answer")
    (found,) = judge({"latency_p50": Gate(ratio=0.7, batch=1)}, result(latency=[latency(0.5), failed]))
    assert found.status is Status.INCOMPLETE
    assert "no answer" in found.text


@pytest.mark.parametrize(
    ("confidence", "expected"), [(0.6, "PASS"), (0.9, "PASS"), (0.95, "FAIL"), (0.99, "FAIL"), (None, "PASS")]
)
def test_the_ratio_is_judged_at_the_confidence_that_was_asked_for(confidence, expected):
    """Three launches at 0.49, 0.50 and 0.51: the interval ends at 0.518 (90 %), 0.525 (95 %), 0.56 (99 %)."""
    one = [session((10.0, ms)).launches[0] for ms in (4.9, 5.0, 5.1)]
    gates = {"latency_p50": Gate(ratio=0.52, confidence=confidence)}
    rows = latency_rows(session().model_copy(update={"launches": tuple(one)}), gates)
    assert rows[0].ratios["p50"].confidence == (confidence or 0.95)
    assert rows[0].arms["candidate"].p50.confidence == (confidence or 0.95)
    assert rows[0].arms["candidate"].first.confidence == 0.95
    (found,) = judge(gates, result(latency=rows))
    assert found.status.value == expected
    assert ("may be" in found.text) is (expected == "FAIL")
    assert f"{(confidence or 0.95) * 100:g} %" in found.condition or confidence is None


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("latency_p90", {"ratio": 0.5}), ("latency_p99", {"ratio": 0.5, "max": 3}), ("memory", {"ratio": 0.5}),
        ("memory", {"max": 9}), ("throughput", {"ratio": 2}), ("throughput", {"min": 9}),
    ],
)  # fmt: skip
def test_no_confidence_can_be_asked_where_there_is_no_interval(name, limits):
    check_confidence(name, Gate(**limits))
    with pytest.raises(RequestError, match=f"{name}: its .* has no interval that a confidence could speak of"):
        check_confidence(name, Gate(**limits, confidence=0.9))


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("latency_p50", {"ratio": 0.5, "max": 3}), ("latency_p90", {"max": 3}), ("latency_p99", {"max": 3}),
        ("size", {"ratio": 0.5}), ("budget", {"ratio": 1}), ("clean_accuracy", {"drop": 0.01, "min": 0.9}),
    ],
)  # fmt: skip
def test_a_confidence_can_be_asked_where_there_is_an_interval(name, limits):
    check_confidence(name, Gate(**limits, confidence=0.99))


def test_an_unsupported_percentile_is_incomplete():
    assert status("latency_p99", Gate(ratio=0.9), latency=[latency()]) == "INCOMPLETE"
    row = LatencyRow("cpu", 1, {"baseline": timing(4, Estimate(8)), "candidate": timing(2, Estimate(4))})
    assert status("latency_p99", Gate(ratio=0.9), latency=[row]) == "PASS"
    assert status("latency_p99", Gate(ratio=0.9, confidence=0.9), latency=[row]) == "INCOMPLETE"


def test_more_throughput_is_better():
    assert status("throughput", Gate(ratio=1.5), latency=[latency(0.5)]) == "PASS"
    assert status("throughput", Gate(ratio=2.5), latency=[latency(0.5)]) == "FAIL"
    assert status("throughput", Gate(min=400), latency=[latency(0.5)]) == "PASS"


@pytest.mark.parametrize(
    ("name", "gate", "expected"),
    [
        ("size", {"ratio": 0.4}, "PASS"),
        ("size", {"ratio": 0.39}, "FAIL"),
        ("size", {"max": 0.4}, "PASS"),
        ("params", {"max": 99_999}, "FAIL"),
        ("macs", {"ratio": 0.5, "confidence": 0.99}, "PASS"),
    ],
)
def test_counted_figures_need_no_interval(name, gate, expected):
    assert status(name, Gate(**gate), models=models()) == expected


@pytest.mark.parametrize("name", ["clean_accuracy", "noise5_accuracy", "noise5_fog_accuracy"])
def test_missing_accuracy_is_incomplete(name):
    assert status(name, Gate(drop=0.5)) == "INCOMPLETE"
    assert status(name, Gate(min=0.01)) == "INCOMPLETE"


@pytest.mark.parametrize("name", ["latency_p50", "latency_p90", "latency_p99", "memory", "size", "params", "macs"])
def test_missing_figures_are_incomplete(name):
    assert status(name, Gate(ratio=9.0)) == "INCOMPLETE"


PARTIAL = LatencyRow("cpu", 1, latency(0.5).arms, latency(0.5).ratios, partial="1 of 3 launches")


@pytest.mark.parametrize("gate", [{"ratio": 0.7}, {"max": 9.0}, {"ratio": 0.4}])
def test_a_partial_measurement_is_incomplete(gate):
    judged = judge({"latency_p50": Gate(**gate)}, result(latency=[PARTIAL]))[0]
    assert judged.status is Status.INCOMPLETE
    assert "1 of 3 launches" in judged.text
    assert "measure.allow_partial" in judged.text


def test_a_partial_measurement_is_judged_where_the_recipe_allows_it():
    judged = judge({"latency_p50": Gate(ratio=0.7)}, result(latency=[PARTIAL]), allow_partial=True)[0]
    assert judged.status is Status.PASS
    assert "partial (1 of 3 launches)" in judged.text


def evidenced(row, *files):
    return replace(row, evidence=list(files))


@pytest.mark.parametrize(
    ("name", "gate", "file"),
    [
        ("size", {"ratio": 0.4}, "b"),
        ("size", {"ratio": 0.4}, "c"),
        ("params", {"max": 1e9}, "c"),
        ("macs", {"ratio": 0.1}, "c"),
        ("latency_p50", {"ratio": 0.7}, "m"),
        ("latency_p50", {"max": 0.1}, "m"),
        ("clean_accuracy", {"drop": 0.5}, "a"),
        ("noise5_accuracy", {"min": 0.99}, "a"),
    ],
)
def test_a_gate_on_a_changed_file_is_incomplete_and_names_it(name, gate, file):
    answers = [evidenced(row, "a") for row in accuracy_rows(answered({}), {})]
    parts = {
        "models": [evidenced(row, row.role[0]) for row in models()],
        "accuracy": answers,
        "latency": [evidenced(latency(0.5), "m")],
    }
    judged = build_result(name="x", id="x", gates={name: Gate(**gate)}, unverified={file: "was changed"}, **parts)
    assert judged.gates[0].status is Status.INCOMPLETE
    assert f"{file} was changed" in judged.gates[0].text
    assert judged.unverified == {file: "was changed"}
    assert judged.warnings == []
    untouched = build_result(name="x", id="x", gates={name: Gate(**gate)}, unverified={"z": "was changed"}, **parts)
    assert untouched.gates[0].status is not Status.INCOMPLETE


def test_a_limit_of_the_candidate_does_not_rest_on_the_baseline():
    rows = [evidenced(row, row.role) for row in models()]
    judged = build_result(name="x", id="x", gates={"size": Gate(max=9.0)}, models=rows, unverified={"baseline": "!"})
    assert judged.gates[0].status is Status.PASS


@pytest.mark.parametrize(
    ("name", "gate", "wide"),
    [
        ("clean_accuracy", {"drop": 0.01}, True),  # 200 images: about 4 points
        ("clean_accuracy", {"drop": 0.2}, False),
        ("clean_accuracy", {"drop": 0.01, "confidence": 0.95}, False),  # says that it may be more instead
        ("clean_accuracy", {"min": 0.99}, True),
        ("clean_accuracy", {"min": 0.5}, False),
        ("latency_p50", {"ratio": 0.55}, False),  # 0.1 wide
        ("latency_p50", {"ratio": 0.95}, True),
        ("latency_p50", {"ratio": 1.0}, False),  # leaves nothing to be judged
        ("size", {"ratio": 0.9999}, False),
    ],
)
def test_an_interval_wider_than_the_tolerance_is_told(name, gate, wide):
    judged = build_result(
        name="x", id="x", gates={name: Gate(**gate)}, robustness=[answered({})], models=models(), latency=[latency(0.5)]
    ).gates[0]
    assert ("wider than the tolerance" in judged.text) is wide, judged.text


def test_not_a_number_is_incomplete():
    broken = Result("x", "x", accuracy=[AccuracyRow("noise5", "clean", delta=Estimate(float("nan")))])
    assert judge({"clean_accuracy": Gate(drop=0.5)}, broken)[0].status is Status.INCOMPLETE


def test_a_failure_by_a_hair_shows_the_hair():
    judged = judge({"latency_p50": Gate(ratio=0.7)}, result(latency=[latency(0.7004)]))[0]
    assert judged.status is Status.FAIL
    assert "ratio 0.7004x" in judged.text


def test_each_limit_is_judged_on_its_own():
    judged = judge({"clean_accuracy": Gate(drop=0.5, min=0.99)}, result(robustness=[answered({"clean": 20})]))
    assert [each.status.value for each in judged] == ["PASS", "FAIL"]


def test_doubt_is_told():
    judged = build_result(
        name="x",
        id="x",
        gates={"clean_accuracy": Gate(drop=0.01, confidence=0.95)},
        robustness=[answered({"clean": 0})],
    ).gates[0]
    assert "the estimate holds, but at 95 %" in judged.text
    assert judged.interval is not None
    assert judged.interval[1] > judged.limit


def test_accuracies_are_estimated_at_the_asked_confidence():
    gates = {"noise5_fog_accuracy": Gate(drop=0.3, confidence=0.99)}
    row = build_result(name="x", id="x", gates=gates, robustness=[answered({})]).accuracy_of("noise5", "fog")
    assert row.delta.confidence == 0.99
    assert level(gates, "clean_accuracy") == 0.95


@pytest.mark.parametrize(
    ("statuses", "expected", "code"),
    [
        ([], "INCOMPLETE", 1),
        (["PASS"], "SHIP", 0),
        (["PASS", "PASS"], "SHIP", 0),
        (["PASS", "FAIL"], "DON'T SHIP", 1),
        (["PASS", "INCOMPLETE"], "INCOMPLETE", 1),
        (["FAIL", "INCOMPLETE"], "DON'T SHIP", 1),
    ],
)
def test_verdict(statuses, expected, code):
    judged = [GateResult("g", Status(each), "", "") for each in statuses]
    found = verdict(judged)
    assert found.value == expected
    assert Result("x", "x", verdict=found).exit_code == code


def test_reasons():
    assert "no gates were declared" in reasons(Result("x", "x"))[0]
    passed = GateResult("g", Status.PASS, "", "")
    assert reasons(Result("x", "x", Verdict.SHIP, gates=[passed, passed])) == ["all 2 gates hold"]


@pytest.mark.parametrize(
    ("name", "gate", "match"),
    [
        ("clean_acuracy", {"drop": 0.1}, "clean_accuracy"),
        ("latency_p95", {"ratio": 0.5}, "latency_p9"),
        ("noise5_rain_accuracy", {"drop": 0.1}, "Did you mean"),
        ("clean_accuracy", {"ratio": 0.9}, "use drop or min"),
        ("latency_p50", {"drop": 0.1}, "use ratio or max"),
        ("throughput", {"max": 10.0}, "use ratio or min"),
        ("size", {"min": 10.0}, "use ratio or max"),
        ("clean_accuracy", {"min": 90.0}, "0.9 for 90 %"),
        ("size", {"ratio": 0.5, "device": "cpu"}, "does not depend on a device"),
    ],
)
def test_gates_that_make_no_sense(name, gate, match):
    with pytest.raises(RequestError, match=match):
        check_gate_name(name, ("noise5",), Gate(**gate))


def test_a_suite_that_is_not_run():
    with pytest.raises(RequestError, match=r"robustness\.suites"):
        check_gate_name("noise5_accuracy", (), Gate(drop=0.1))
    check_gate_name("noise5_accuracy", ("noise5",), Gate(drop=0.1))
    with pytest.raises(UnknownName):
        check_gate_name("mean_accuracy", ("noise5",))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"drop": -0.1},
        {"drop": 1.0},
        {"ratio": 0.0},
        {"confidence": 0.95},
        {"drop": 0.1, "confidence": 0.5},
        {"drop": 0.1, "confidence": 1.0},
        {"drop": "1 %"},
        {"drop": 0.1, "batch": 0},
        {"dorp": 0.1},
    ],
)
def test_malformed_gates(values):
    with pytest.raises(ValidationError):
        Gate.parse(values)
