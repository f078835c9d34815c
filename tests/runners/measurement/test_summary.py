from __future__ import annotations

import pytest

from edgecr.core.errors import UnknownName
from edgecr.core.estimate import Estimate
from edgecr.runners.device import Protocol
from edgecr.runners.measurement.contention import Contention
from edgecr.runners.measurement.record import (
    Alone,
    Launch,
    MeasuredArm,
    Measurement,
    Program,
    Rate,
    Round,
    Start,
    Warmth,
)
from edgecr.runners.measurement.summary import compare, conclusion, summarise
from tests.runners.tiny_device import quick_device

MS = 1_000_000


def start(arm: int) -> Start:
    memory = {"empty": 10 * 1024, "imported": 40 * 1024, "loaded": 50 * 1024, "inferred": 60 * 1024}
    return Start(arm=arm, import_ns=1, load_ns=7 * MS, first_ns=9 * MS, memory_kb=memory, info={})


def measurement(
    times_ms=(10.0, 5.0),
    *,
    launches=3,
    rounds=10,
    calls=4,
    wait=0.0,
    slope=0.0,
    batch=1,
    steady=True,
    switches=0,
    steal=0,
    **extra,
):
    """A synthetic session: arm i always takes times_ms[i]."""

    def turn(arm: int, number: int) -> Round:
        ns = int(times_ms[arm] * MS * (1 + slope * number / rounds))
        run = ns * calls
        return Round(
            arm=arm,
            number=number,
            start_ns=0,
            ns=(ns,) * calls,
            run_ns=run,
            wait_ns=int(run * wait / (1 - wait)),
            switches=switches,
            steal=steal,
        )

    one = Launch(
        starts=tuple(map(start, range(2))),
        warmups=tuple(Warmth(arm=arm, steady=steady, calls=9, medians_ns=(1, 1, 1)) for arm in range(2)),
        rounds=tuple(turn(arm, number) for number in range(rounds) for arm in range(2)),
    )
    arms = tuple(
        MeasuredArm(label=label, file="m.onnx", sha256="0", size_bytes=100, runtime="ort", batch=batch)
        for label in ("baseline", "candidate")
    )
    return Measurement(device=quick_device(), seed=0, arms=arms, launches=(one,) * launches, **extra)


def test_figures_of_a_calm_session() -> None:
    slow, fast = summarise(measurement(batch=8))
    assert slow.p50_ms.value == pytest.approx(10)
    assert fast.p90_ms.value == pytest.approx(5)
    assert slow.p50_ms.samples == 120
    assert slow.cpu_ms.value == pytest.approx(10)
    assert fast.sequential_throughput.value == pytest.approx(8 / 0.005)
    assert (slow.load_ms.value, slow.first_ms.value) == (7, 9)
    assert slow.wait_share == 0
    assert slow.size_bytes == 100


def test_a_percentile_without_enough_samples_is_absent_with_the_reason() -> None:
    slow, _ = summarise(measurement())
    assert slow.p99_ms is None
    assert "p99 needs at least 1000 samples, there are 120" in slow.missing["p99_ms"]


def test_what_was_not_measured_is_none_never_zero() -> None:
    slow, _ = summarise(measurement())
    assert slow.throughput is None
    assert slow.peak_memory_mb is None
    assert {"throughput", "peak_memory_mb"} <= set(slow.missing)


def alone(*, wait: tuple[float | None, float | None] = (0.0, 0.0)):
    """The first arm with a process to itself: one stream, then two, which do more; they wait for that share."""
    quiet, busy = (None if share is None else int(10**9 * share) for share in wait)
    counted = {"run_ns": 10**9, "switches": 0, "steal": 0}
    rates = (
        Rate(arm=0, streams=1, calls=10, elapsed_ns=10**9, wait_ns=quiet, **counted),
        Rate(arm=0, streams=2, calls=30, elapsed_ns=2 * 10**9, wait_ns=busy, **counted),
    )
    return (Alone(start=start(0), rates=rates),)


def test_a_megabyte_is_a_million_bytes() -> None:
    memory = summarise(measurement(alone=alone()))[0].peak_memory_mb
    assert memory.value == pytest.approx(52.4288)  # 50 * 2 ** 20 bytes
    assert memory.unit == "MB"
    assert "31 MB" in memory.note


@pytest.mark.parametrize(
    ("wait", "rate"), [((0.0, 0.5), 40.0), ((0.5, 0.0), 60.0), ((0.5, 0.5), None), ((None, None), None)]
)
def test_throughput_is_gated_by_contention_as_latency_is(wait, rate) -> None:
    slow, _ = summarise(measurement(batch=4, alone=alone(wait=wait)))
    if rate is None:
        assert slow.throughput is None
        assert "while throughput was measured" in slow.missing["throughput"]
    else:
        assert slow.throughput.value == pytest.approx(rate)


def test_memory_and_throughput_of_an_arm_alone() -> None:
    slow, fast = summarise(measurement(batch=4, alone=alone()))
    assert slow.throughput.value == pytest.approx(60)
    assert "2 streams" in slow.throughput.note
    assert fast.throughput is None


def test_a_busy_machine_gives_the_ratio_but_no_absolute_latency() -> None:
    busy = measurement(wait=0.48, facts={"busiest": [{"name": "ffmpeg", "pid": 7, "share": 0.9}]})
    slow, _ = summarise(busy)
    assert slow.p50_ms is slow.p90_ms is slow.sequential_throughput is None
    expected = (
        "run-queue wait 48 %). Absolute latencies are not reported; the paired ratio is. "
        "Stop these programs first: ffmpeg (pid 7"
    )
    assert expected in slow.missing["p50_ms"]
    assert {slow.missing[name] for name in ("p90_ms", "p99_ms", "sequential_throughput")} == {slow.missing["p50_ms"]}
    assert "too few" not in " ".join(slow.missing.values())
    assert "CPU was shared" not in slow.missing["throughput"]
    assert slow.cpu_ms.value == pytest.approx(10)
    assert compare(busy, "baseline", "candidate")[0].ratio.value == pytest.approx(0.5)


def test_only_calm_launches_count_for_absolute_latency() -> None:
    calm, busy = measurement(launches=4), measurement(times_ms=(30.0, 15.0), wait=0.5)
    mixed = calm.model_copy(update={"launches": calm.launches[:3] + busy.launches[:1]})
    slow, _ = summarise(mixed)
    assert slow.p50_ms.high == pytest.approx(10)
    assert slow.p50_ms.samples == 120


@pytest.mark.parametrize("silent", [("run_ns", "wait_ns"), ("wait_ns",), ("steal",), ("switches",)])
def test_without_the_kernels_word_there_is_no_absolute_latency_but_the_ratio(silent) -> None:
    full = measurement()
    launch = full.launches[0]
    rounds = tuple(one.model_copy(update=dict.fromkeys(silent)) for one in launch.rounds)
    quiet = full.model_copy(update={"launches": (launch.model_copy(update={"rounds": rounds}),) * 3})
    slow, _ = summarise(quiet)
    assert slow.p50_ms is slow.p90_ms is slow.sequential_throughput is None
    assert slow.missing["p50_ms"].startswith("Its kernel tells no ")
    assert (slow.cpu_ms is None) == ("run_ns" in silent)
    assert compare(quiet, "baseline", "candidate")[0].ratio.value == pytest.approx(0.5)


def test_a_container_says_where_to_measure_instead() -> None:
    rounds = tuple(one.model_copy(update={"wait_ns": None}) for one in measurement().launches[0].rounds)
    launch = measurement().launches[0].model_copy(update={"rounds": rounds})
    slow, _ = summarise(measurement().model_copy(update={"launches": (launch,)}))
    assert "as in some containers" in slow.missing["p50_ms"]
    assert "Measure outside of the container" in slow.missing["p50_ms"]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [({"steal": 1}, "stolen by the hypervisor 25 %"), ({"switches": 40}, "forced context switches 1,000 a second")],
)
def test_steal_and_forced_switches_beyond_their_bounds_close_the_gate(extra, reason) -> None:
    slow, _ = summarise(measurement(**extra))
    assert slow.p50_ms is None
    assert reason in slow.missing["p50_ms"]


def test_launches_that_were_left_out_are_told() -> None:
    calm, busy = measurement(launches=3), measurement(wait=0.5)
    slow, _ = summarise(calm.model_copy(update={"launches": calm.launches + busy.launches[:1]}))
    assert slow.p50_ms is not None
    assert any("1 of 4 launches give no absolute latency" in text for text in slow.warnings)


def test_slow_calls_of_one_moment_are_no_percentile() -> None:
    """Ten samples lie beyond the 99th percentile, but all of them in one turn."""
    calm = measurement(launches=3, rounds=25, calls=20)
    turn = calm.launches[0].rounds[0]
    slow_turn = turn.model_copy(update={"ns": (20 * MS,) * 20})
    launch = calm.launches[0].model_copy(update={"rounds": (slow_turn, *calm.launches[0].rounds[1:])})
    slow, fast = summarise(calm.model_copy(update={"launches": (launch, *calm.launches[1:])}))
    assert "come from 1 of 75 turns" in slow.missing["p99_ms"]
    assert slow.p90_ms is not None
    assert fast.p99_ms is not None


def test_times_of_coming_up_are_each_arms_own() -> None:
    one = measurement()
    late = start(1).model_copy(update={"load_ns": 70 * MS, "first_ns": 90 * MS})
    launches = tuple(each.model_copy(update={"starts": (start(0), late)}) for each in one.launches)
    slow, fast = summarise(one.model_copy(update={"launches": launches}))
    assert (slow.load_ms.value, slow.first_ms.value, slow.load_ms.samples) == (7, 9, 3)
    assert (fast.load_ms.value, fast.first_ms.value) == (70, 90)


def with_round(one, place: int, **changes):
    """The same measurement, with one round of each launch changed."""

    def changed(launch):
        rounds = list(launch.rounds)
        rounds[place] = rounds[place].model_copy(update=changes)
        return launch.model_copy(update={"rounds": tuple(rounds)})

    return one.model_copy(update={"launches": tuple(map(changed, one.launches))})


@pytest.mark.parametrize("silent", ["wait_ns", "steal", "switches"])
def test_a_single_round_on_which_the_kernel_is_silent_leaves_no_absolute_latency(silent) -> None:
    slow, fast = summarise(with_round(measurement(), 0, **{silent: None}))
    assert slow.p50_ms is None
    assert fast.p50_ms is not None


@pytest.mark.parametrize(
    ("counted", "shared"),
    [
        ({"wait_ns": 30_000_000}, True),
        ({"wait_ns": 29_999_999}, False),
        ({"steal": 3}, True),
        ({"steal": 2}, False),
        ({"switches": 200}, True),
        ({"switches": 199}, False),
    ],
)
def test_a_share_exactly_at_its_limit_closes_the_gate(counted, shared) -> None:
    """Of one second: 3 % of waiting and of stolen time, and 200 switches."""
    calm = {"run_ns": 10**9 - counted.get("wait_ns", 0), "wait_ns": 0, "steal": 0, "switches": 0}
    one = Round(arm=0, number=0, start_ns=0, ns=(10**9,), **(calm | counted))
    assert bool(Contention.during([one]).reason(Protocol())) is shared


def test_a_round_of_no_time_has_no_ratio() -> None:
    ratio = compare(with_round(measurement(), 0, ns=(0,) * 4), "baseline", "candidate")[0].ratio
    assert ratio.value == pytest.approx(0.5)
    assert ratio.samples == 27


def test_a_stream_that_finished_no_call_has_no_throughput() -> None:
    (one,) = alone()
    idle = one.model_copy(update={"rates": tuple(rate.model_copy(update={"calls": 0}) for rate in one.rates)})
    slow, _ = summarise(measurement(alone=(idle,)))
    assert slow.throughput is None
    assert "throughput" in slow.missing


def test_a_failed_session_gives_its_error_as_the_reason() -> None:
    slow, _ = summarise(measurement(launches=0, error="the board burnt"))
    assert slow.p50_ms is None
    assert slow.missing["p50_ms"] == "the board burnt"
    assert compare(measurement(launches=0), "baseline", "candidate")[0].ratio is None


def test_drift_and_restless_warm_up_are_named() -> None:
    slow, _ = summarise(measurement(slope=0.3, launches=1, rounds=30, steady=False))
    assert slow.drift == pytest.approx(0.25, abs=0.05)
    assert any("drifted by" in text for text in slow.warnings)
    assert any("not steady after warm-up in 1 of 1 launches" in text for text in slow.warnings)


def test_pairs_of_a_broken_launch_are_only_whole_rounds() -> None:
    full = measurement(launches=1)
    cut = full.launches[0].model_copy(update={"rounds": full.launches[0].rounds[:-1]})
    ratio = compare(full.model_copy(update={"launches": (cut,)}), "baseline", "candidate")[0].ratio
    assert ratio.samples == 9


def test_an_unknown_label_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="baseline"):
        compare(measurement(), "base", "candidate")


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (Estimate(0.5, 0.49, 0.51, 0.95), "candidate is 2.00x as fast as baseline"),
        (Estimate(1.2, 1.1, 1.3, 0.95), "candidate is slower than baseline: it takes 1.20 times as long"),
        (Estimate(0.98, 0.9, 1.05, 0.95), "No difference"),
        (Estimate(0.995, 0.994, 0.996, 0.95), "No difference"),
        (Estimate(0.98, 0.97, 0.99, 0.95), "as fast as"),
        (Estimate(1.02, 1.0, 1.04, 0.95), "No difference"),
        (Estimate(0.5), "nothing is claimed"),
        (None, "no comparison"),
    ],
)
def test_what_may_be_claimed(ratio, expected) -> None:
    assert expected in conclusion("baseline", "candidate", ratio)


def test_plain_values() -> None:
    slow, _ = summarise(measurement())
    assert slow.plain()["p50_ms"]["unit"] == "ms"
    assert slow.plain()["p99_ms"] is None


def by_program(wait: float | None, **facts) -> Measurement:
    """A session whose arms were timed by a program that also started, which took most of its life."""
    whole = measurement(**facts)
    run = 1_000 * MS
    program = Program(
        elapsed_ns=2 * run,
        run_ns=run,
        wait_ns=None if wait is None else int(run * wait / (1 - wait)),
        switches=3,
        steal=0,
    )
    unknown = {"run_ns": None, "wait_ns": None, "switches": None, "steal": None, "program": program}
    launches = tuple(
        launch.model_copy(
            update={
                "rounds": tuple(one.model_copy(update=unknown) for one in launch.rounds),
                "starts": tuple(one.model_copy(update={"import_ns": None, "first_ns": None}) for one in launch.starts),
            }
        )
        for launch in whole.launches
    )
    return whole.model_copy(update={"launches": launches})


def test_the_counters_of_a_program_decide_whether_its_times_are_reported() -> None:
    calm, disturbed, silent = (summarise(by_program(wait))[0] for wait in (0.0, 0.5, None))
    assert calm.p50_ms is not None
    assert calm.p50_ms.value == pytest.approx(10)
    assert disturbed.p50_ms is None
    assert "run-queue wait 50 %" in disturbed.missing["p50_ms"]
    assert silent.p50_ms is None
    assert "no run-queue wait" in silent.missing["p50_ms"]


def test_figures_that_a_program_does_not_tell_are_absent_with_a_reason() -> None:
    summary = summarise(by_program(0.0))[0]
    assert summary.cpu_ms is None
    assert "another processor" in summary.missing["cpu_ms"]
    assert summary.first_ms is None
    assert "first inference" in summary.missing["first_ms"]
    assert summary.load_ms is not None
    assert summary.load_ms.value == pytest.approx(7)


def test_the_ratio_of_times_of_a_program_is_paired_as_ever() -> None:
    (pair,) = compare(by_program(0.5), "baseline", "candidate")
    assert pair.ratio is not None
    assert pair.ratio.value == pytest.approx(0.5)
    assert pair.cpu_ratio is None
