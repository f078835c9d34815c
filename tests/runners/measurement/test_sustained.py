"""Long measurements minute by minute, and layers of a profiled session."""

from __future__ import annotations

import pytest

from edgecr.report.latency_rows import latency_rows
from edgecr.report.length_tables import layer_tables, stream_tables
from edgecr.report.render.html import html
from edgecr.report.tables import minute_tables
from edgecr.runners.measurement.layers import conversion_share, integer_share, layer_shares
from edgecr.runners.measurement.readings import BoardState, Watched
from edgecr.runners.measurement.record import Alone, NodeTime, Rate, Round
from edgecr.runners.measurement.sustained import course_of
from tests.report.miniatures import result
from tests.runners.measurement.test_summary import measurement, start

S = 10**9


def long(speeds, *, states=(), **extra):
    """One launch in which both arms take turns of ten seconds; ``speeds`` are their milliseconds in each minute."""
    rounds = []
    for number in range(6 * len(speeds)):
        for arm in range(2):
            ms = speeds[number // 6][arm]
            at = number * 10 * S + arm * 5 * S
            ns = (int(ms * 1e6),) * 10
            rounds.append(
                Round(arm=arm, number=number, start_ns=at, ns=ns, run_ns=sum(ns), wait_ns=0, switches=0, steal=0)
            )
    rounds[-1] = rounds[-1].model_copy(update={"ns": (5 * S,)})  # the last turn ends the last minute
    one = measurement(launches=1, **extra)
    launch = one.launches[0].model_copy(update={"rounds": tuple(rounds), "watched": Watched(states=states)})
    return one.model_copy(update={"launches": (launch,)})


def test_each_minute_has_its_own_median_and_the_first_and_last_are_compared() -> None:
    course = course_of(long([(10.0, 5.0), (10.5, 5.0), (12.0, 5.5)]), 1)
    assert [one.ms[0] for one in course.minutes] == pytest.approx([10.0, 10.5, 12.0])
    assert course.conclusion == ("From minute 1 to minute 3: baseline +20%, candidate +10%. The order stayed the same.")


@pytest.mark.parametrize(
    ("speeds", "said"),
    [
        ([(10.0, 9.0), (10.0, 12.0)], "The order changed: at last it is baseline, candidate, fastest first."),
        ([(10.0, 9.95), (10.0, 10.05)], "The order stayed the same."),  # half a percent is no order
    ],
)
def test_an_order_that_changed_is_told(speeds, said: str) -> None:
    assert course_of(long(speeds), 1).conclusion.endswith(said)


def test_a_short_measurement_has_no_course() -> None:
    assert course_of(measurement(), 1) is None
    assert course_of(long([(10.0, 5.0)]), 1) is None
    assert latency_rows(measurement())[0].minutes == []


def test_minutes_are_not_shown_where_latencies_are_withheld() -> None:
    one = long([(10.0, 5.0), (10.0, 5.0)])
    launch = one.launches[0]
    busy = tuple(each.model_copy(update={"wait_ns": each.run_ns}) if each.arm else each for each in launch.rounds)
    shared = one.model_copy(update={"launches": (launch.model_copy(update={"rounds": busy}),)})
    (row,) = latency_rows(shared)
    assert row.minutes == []
    assert [text for text in row.doubts if "minute by minute" in text and "run-queue wait 50 %" in text]
    (calm,) = latency_rows(one)
    assert (len(calm.minutes), calm.doubts) == (2, [])
    assert latency_rows(measurement(wait=0.5))[0].doubts == []


def test_the_state_of_the_board_stands_beside_each_minute() -> None:
    states = tuple(
        BoardState(
            at_ns=number * 30 * S,
            temperatures={"cpu": 40.0 + number, "tj": 60.0 + number},
            gpu_hz=(1000 - number) * 10**6,
            over_current={"oc3": number // 3},
        )
        for number in range(4)
    )
    (table,) = minute_tables(result(latency=latency_rows(long([(10.0, 5.0), (11.0, 6.0)], states=states))))
    assert table.head == ("minute", "baseline", "candidate", "hottest", "clocks", "throttling")
    assert table.rows[0] == ("1", "10.0 ms", "5.00 ms", "61 C", "GPU 1,000 MHz", "none told")
    assert table.rows[1][3:] == ("63 C", "GPU 998 MHz", "momentary over-current (oc3) +1")
    assert "order stayed" in table.note


LAYERS = (
    NodeTime(arm=0, name="q", op="QuantizeLinear", us=(900, 900, 900, 900, 900, 10, 10, 10)),
    NodeTime(arm=0, name="conv1", op="QLinearConv", us=(60.0,)),
    NodeTime(arm=0, name="fc", op="Gemm", us=(30.0, 30.0)),
    NodeTime(arm=1, name="fc", op="Gemm", us=(1.0,)),
)


def test_shares_of_layers_leave_the_first_calls_out() -> None:
    found = layer_shares(measurement(layers=LAYERS), 0)
    assert [(one.name, one.share) for one in found] == [("q", 0.1), ("conv1", 0.6), ("fc", 0.3)]
    assert integer_share(found) == pytest.approx(0.6)
    assert conversion_share(found) == pytest.approx(0.1)


def test_the_slowest_layers_come_first() -> None:
    first, second = layer_tables(measurement(layers=LAYERS))
    assert [row[0] for row in first.rows] == ["conv1", "fc", "q"]
    assert "60.0 % of the time is spent in integers" in first.note
    assert second.title == "Layers of candidate, batch 1"
    assert list(layer_tables(measurement())) == []


def test_streams_are_shown_where_there_are_several() -> None:
    counted = {"run_ns": S, "wait_ns": 0, "switches": 0, "steal": 0}
    rates = tuple(Rate(arm=0, streams=count, calls=10 * count, elapsed_ns=S, **counted) for count in (1, 2))
    (table,) = stream_tables(measurement(batch=4, alone=(Alone(start=start(0), rates=rates),)))
    assert [row[2:4] for row in table.rows] == [("1", "40.0 img/s"), ("2", "80.0 img/s")]
    assert list(stream_tables(measurement(alone=(Alone(start=start(0), rates=rates[:1]),)))) == []


def test_the_page_shows_both_models_in_every_minute() -> None:
    page = html(result(latency=latency_rows(long([(10.0, 5.0), (11.0, 6.0)]))))
    assert page.count("<circle") == 4
    assert "candidate, minute 2: 120.0%" in page
    assert "<circle" not in html(result(latency=latency_rows(measurement())))
