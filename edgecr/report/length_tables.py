"""Tables of one measurement that a report of models does not have: streams, layers, numbers of threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgecr.report.gates.evidence import timing_of
from edgecr.report.latency_rows import latency_rows
from edgecr.report.numbers import MILLISECONDS, MISSING, PERCENT, RATE, RATIO, figure, with_unit
from edgecr.report.result import BASELINE, CANDIDATE
from edgecr.report.table import Table
from edgecr.runners.measurement.contention import Contention
from edgecr.runners.measurement.layers import conversion_share, integer_share, layer_shares
from edgecr.runners.measurement.record import Measurement

MOST_LAYERS = 15


def further_tables(measurement: Measurement) -> list[Table]:
    """Every table that the measurement can fill and that a report does not have."""
    return [*stream_tables(measurement), *layer_tables(measurement)]


def stream_tables(measurement: Measurement) -> Iterator[Table]:
    """Images in a second for each number of streams, where several were tried."""
    rows = []
    for alone in measurement.alone:
        for rate in alone.rates if len(alone.rates) > 1 else ():
            arm = measurement.arms[rate.arm]
            speed = with_unit(rate.calls * arm.batch / rate.elapsed_ns * 1e9, RATE)
            shared = Contention.during([rate]).reason(measurement.device.protocol)
            rows.append((arm.label, str(arm.batch), str(rate.streams), speed, shared or ""))
    if rows:
        yield Table("Streams", ("role", "batch", "streams", "throughput", "doubt"), tuple(rows))


def layer_tables(measurement: Measurement) -> Iterator[Table]:
    """The slowest layers of each arm, and the share of its time in integers."""
    for number, arm in enumerate(measurement.arms):
        layers = layer_shares(measurement, number)
        if not layers:
            continue
        slowest = sorted(layers, key=lambda one: -one.share)[:MOST_LAYERS]
        rows = [(one.name, one.op, with_unit(one.ms, MILLISECONDS), with_unit(one.share, PERCENT)) for one in slowest]
        rest = 1 - sum(one.share for one in slowest)
        if len(layers) > len(slowest):
            rows.append((f"{len(layers) - len(slowest)} more", "", "", with_unit(max(rest, 0), PERCENT)))
        note = (
            f"{with_unit(integer_share(layers), PERCENT)} of the time is spent in integers, "
            f"{with_unit(conversion_share(layers), PERCENT)} in conversions of numbers or of their order. Medians of a "
            "profiled session, which is slower than the measured one."
        )
        yield Table(
            f"Layers of {arm.label}, batch {arm.batch}", ("layer", "operator", "time", "share"), tuple(rows), note
        )


def thread_table(swept: Sequence[tuple[int, Measurement]]) -> Table:
    """The median latency of each role with each number of threads, and their ratio."""
    rows = []
    for threads, measurement in swept:
        for row in latency_rows(measurement):
            times = [figure(timing_of(row, role, "p50"), MILLISECONDS) for role in (BASELINE, CANDIDATE)]
            ratio = row.ratios.get("p50")
            shown = [time for role, time in zip((BASELINE, CANDIDATE), times) if role in row.arms]
            reasons = [arm.missing["p50"] for arm in row.arms.values() if "p50" in arm.missing]
            cells = [*shown, figure(ratio, RATIO)] if len(row.arms) > 1 else shown
            rows.append((str(threads), str(row.batch), *cells, row.error or next(iter(reasons), "")))
    both = rows and len(rows[0]) > 4
    head = ("threads", "batch", *((BASELINE, CANDIDATE, "ratio") if both else ("p50",)), "doubt")
    note = "Each number of threads is a measurement of its own; only models in the same row were measured in turns."
    return Table("Threads", head, tuple(rows), f"{note} {MISSING} marks what could not be told.")
