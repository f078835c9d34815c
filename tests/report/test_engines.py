"""Engines and their slowest layers in a report."""

from __future__ import annotations

from edgecr.report.engine_tables import SHOWN, engine_table, layer_table
from edgecr.report.latency_rows import latency_rows
from edgecr.report.result import EngineRow, LatencyRow, LayerRow, Result, Timing
from edgecr.report.tables import tables
from edgecr.runners.measurement.record import MeasuredArm, Measurement
from edgecr.runners.tensorrt.engine import Engine, EngineParity, LayerTime
from tests.runners.tiny_device import quick_device


def shown(engine: EngineRow | None) -> Result:
    return Result("x", "", latency=[LatencyRow("orin", 1, {"candidate": Timing(engine=engine)})])


def engine(count: int) -> EngineRow:
    layers = [LayerRow(f"layer {number}", "CaskConvolution", "int8", 1.0 + number) for number in range(count)]
    return EngineRow("10.3.0", "Orin", "8.7", 61.2, True, 2_500_000, 196.188, 5.5, 64, 1.0, 0.25,
                     {"int8": 0.75, "fp16": 0.25}, layers)  # fmt: skip


def test_an_engine_is_one_row_with_what_it_took_and_how_it_answers() -> None:
    (row,) = engine_table(shown(engine(3))).rows
    assert row[1:] == (
        "candidate",
        "TensorRT 10.3.0, Orin (8.7)",
        "61 s, before",
        "2.50 MB",
        "100.0 % of 64",
        "196.2 MiB",
        "5.50 ms",
        "25.0 %",
        "int8 75.0 %, fp16 25.0 %",
    )


def test_what_is_not_told_is_said() -> None:
    bare = EngineRow("8.2.1", "Xavier", "7.2", 5.0, False, 1)
    (row,) = engine_table(shown(bare)).rows
    assert row[5:] == ("not asked", "not told", "not told", "not told", "not told")
    assert layer_table(shown(bare)).rows == ()


def test_the_slowest_layers_come_first_and_shares_are_of_all_of_them() -> None:
    rows = layer_table(shown(engine(19))).rows
    assert len(rows) == SHOWN
    assert rows[0][2:] == ("layer 18", "CaskConvolution", "int8", "19.0 ms", "10.0 %")  # of 190 ms
    assert [row[2] for row in rows[:3]] == ["layer 18", "layer 17", "layer 16"]


def test_a_report_has_these_tables_only_where_there_are_engines() -> None:
    assert {"Engines", "Slowest layers"} <= {table.title for table in tables(shown(engine(1)))}
    assert not {"Engines", "Slowest layers"} & {table.title for table in tables(shown(None))}


def test_an_engine_stands_at_the_batch_that_its_layers_were_timed_with() -> None:
    arms = tuple(
        MeasuredArm(label="candidate", file="m", sha256="0", size_bytes=1, runtime="tensorrt", batch=batch)
        for batch in (1, 4)
    )
    built = Engine(
        arms=(0, 1),
        tensorrt="10.3.0",
        gpu="Orin",
        capability="8.7",
        flags=(),
        seconds=1.0,
        cached=False,
        size_bytes=1,
        sha256="",
        log_sha256="",
        log="",
        parity=EngineParity(images=16, agreement=0.9375, cosine=0.99),
        layers=(LayerTime(name="a", ms=2.0, kind="Reformat"), LayerTime(name="b", ms=6.0, precision="fp16")),
    )
    rows = latency_rows(Measurement(device=quick_device(), seed=0, arms=arms, engines=(built,)))
    first, second = (row.arms["candidate"].engine for row in rows)
    assert second is None
    assert first is not None
    assert (first.images, first.agreement, first.reformats) == (16, 0.9375, 0.25)
    assert first.precisions == {"fp16": 0.75, "not told": 0.25}
