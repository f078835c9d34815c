"""Texts and files of trtexec are read as its public source writes them, and nothing in them can do harm."""

from __future__ import annotations

import json
import random

import pytest

from edgecr.core.errors import DeviceFailed
from edgecr.runners.tensorrt.answers import values_of
from edgecr.runners.tensorrt.engine import Engine, LayerTime
from edgecr.runners.tensorrt.output import (
    LayerFacts,
    answered,
    compute_times,
    layer_facts,
    layer_spans,
    read_log,
)

LOG = """&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # /usr/src/tensorrt/bin/trtexec --loadEngine=x --useCudaGraph
[04/21/2025-16:34:20] [I] Data transfers: Enabled
[04/21/2025-16:34:20] [I] === Device Information ===
[04/21/2025-16:34:20] [I] Selected Device: Orin
[04/21/2025-16:34:20] [I] Selected Device ID: 0
[04/21/2025-16:34:20] [I] Compute Capability: 8.7
[04/21/2025-16:34:21] [I] Engine loaded in 0.0112 sec.
[04/21/2025-16:34:21] [I] Loaded engine with size: 22.5 MiB
[04/21/2025-16:34:21] [I] Engine deserialized in 0.0326257 sec.
[04/21/2025-16:34:21] [I] Created execution context with device memory size: 196.188 MiB
[10/03/2024-10:47:59] [I] === Performance summary ===
[10/03/2024-10:47:59] [I] Throughput: 130.298 qps
[10/03/2024-10:47:59] [I] Total Host Walltime: 3.00082 s
[10/03/2024-10:47:59] [W] * GPU compute time is unstable, with coefficient of variance = 5.55763%.
[10/03/2024-10:47:59] [W]   If not already in use, locking GPU clock frequency may improve the stability.
&&&& PASSED TensorRT.trtexec [TensorRT v100300] [b17] # x
"""


def test_a_log_of_a_run_that_passed() -> None:
    log = read_log(LOG)
    assert (str(log.version), log.build, log.passed) == ("10.3.0", "17", True)
    assert (log.gpu, log.capability) == ("Orin", "8.7")
    assert log.figures == {"load_s": 0.0326257, "engine_mib": 22.5, "device_mib": 196.188, "wall_s": 3.00082}
    assert log.unstable == 5.55763
    assert log.errors == ()


@pytest.mark.parametrize("digits", ["1e308", "1e15", "1000001", "1e-12", "-1", "nan", "inf", "1.2.3"])
def test_figures_that_none_can_be_are_not_told(digits: str) -> None:
    said = [
        f"Engine loaded in {digits} sec.", f"Total Host Walltime: {digits} s",
        f"Timing trace has 4 queries over {digits} s", f"Loaded engine with size: {digits} MiB",
    ]  # fmt: skip
    assert read_log("\n".join(f"[x] [I] {one}" for one in said)).figures == {}
    assert (
        read_log(f"[x] [W] * GPU compute time is unstable, with coefficient of variance = {digits}%.").unstable is None
    )


@pytest.mark.parametrize(
    "dimensions",
    [
        "99999999999999999999",
        "0x99999999999999999999",
        "4294967296x4294967296",
        "1" + "x1" * 100,
        "9" * 5000,
        "65536x65536x65536x65536",
    ],
)
def test_shapes_that_cannot_be_are_a_failure_of_the_device(dimensions: str) -> None:
    with pytest.raises(DeviceFailed):
        for one in answered(json.dumps([{"name": "y", "dimensions": dimensions, "values": []}])):
            values_of(one)


def test_a_build_and_what_older_versions_print() -> None:
    log = read_log("[x] [I] Engine built in 61.2 sec.\n[x] [I] Created engine with size: 22.5 MiB\n")
    assert log.figures == {"build_s": 61.2, "engine_mib": 22.5}
    assert read_log("[08/01/2022-10:00:00] [I] Engine loaded in 0.5 sec.").figures == {"load_s": 0.5}


def test_a_run_that_failed_and_one_that_was_killed() -> None:
    text = LOG.splitlines()[0]
    assert read_log(text).passed is None
    failed = read_log(text + "\n[x] [E] Unknown option: --fp8 1\n" + text.replace("RUNNING", "FAILED"))
    assert failed.passed is False
    assert failed.errors == ("Unknown option: --fp8 1",)


TIMES = (
    '[\n  { "startEnqMs" : 0.1, "endEnqMs" : 0.2, "startComputeMs" : 0.3, "endComputeMs" : 5.3, "computeMs" : 5.00001,'
    ' "latencyMs" : 5 }\n, { "computeMs" : 4.5, "newer" : "x" }\n]\n'
)


def test_times_are_those_of_the_gpu_in_nanoseconds() -> None:
    assert compute_times(TIMES) == [5_000_010, 4_500_000]
    assert compute_times(TIMES, warmup_ms=0.4) == [4_500_000]


@pytest.mark.parametrize(
    "text",
    [None, "", "[", "[]", "{}", "[1]", '[{"computeMs": -1}]', '[{"computeMs": "1"}]', '[{"computeMs": NaN}]',
     '[{"computeMs": 1e400}]', '[{"computeMs": true}]', '[{"latencyMs": 1}]', "[" * 100_000],
)  # fmt: skip
def test_times_that_cannot_be_are_a_failure_of_the_device(text: str | None) -> None:
    with pytest.raises(DeviceFailed, match="file of times cannot be read"):
        compute_times(text)


PROFILE = (
    '[\n  { "count" : 41400 }\n, { "name" : "/conv1/Conv + /act1/Relu", "timeMs" : 1160.78, "averageMs" : 0.0280382, '
    '"medianMs" : 0.027872, "percentage" : 60 }\n, { "name" : "Reformatting CopyNode for Input Tensor 0 to /conv1", '
    '"timeMs" : 1, "averageMs" : 0.01, "percentage" : 40 }\n]\n'
)


def test_layers_have_a_median_since_8_5_and_a_mean_before() -> None:
    spans = layer_spans(PROFILE)
    assert [(span.median_ms, span.average_ms) for span in spans] == [(0.027872, 0.0280382), (None, 0.01)]


@pytest.mark.parametrize("text", [None, "{}", "[5]", '[{"name": 5, "averageMs": 1}]', '[{"count": 1}, {"name": "a"}]'])
def test_a_profile_that_cannot_be_read(text: str | None) -> None:
    with pytest.raises(DeviceFailed, match="layer times cannot be read"):
        layer_spans(text)


def layer(**ends) -> dict:
    return {"Name": "conv", "LayerType": "CaskConvolution", "Inputs": [ends], "Outputs": [{"Format/Datatype": "Half"}]}


@pytest.mark.parametrize(
    ("ends", "precision"),
    [
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format."}, "int8"),
        ({"Format/Datatype": "Row major linear FP16 format"}, "fp16"),
        ({"Format/Datatype": "Two wide channel vectorized row major FP16 format"}, "fp16"),
        ({"Format/Datatype": "Float"}, "fp32"),
        ({"Format/Datatype": "Half"}, "fp16"),
        ({"Format/Datatype": "N/A due to dynamic shapes"}, "fp16"),
        ({"Format": "Row major linear", "Datatype": "INT8"}, "int8"),
        ({"Format": "Row major linear", "DataType": "BFloat16"}, "bf16"),
        ({}, "fp16"),
    ],
)
def test_layer_facts_of_version_10_and_11(ends: dict, precision: str) -> None:
    for root in ({"Layers": [layer(**ends)], "Bindings": ["x"]}, [layer(**ends)], {"Layers": [layer(**ends), 7, {}]}):
        assert layer_facts(json.dumps(root)) == {"conv": LayerFacts("conv", "CaskConvolution", precision)}


def test_an_engine_that_was_not_built_to_be_described_has_names_only() -> None:
    assert layer_facts('{"Layers": ["conv", "pool"], "Bindings": []}')["pool"] == LayerFacts("pool")
    assert layer_facts("") == layer_facts(None) == layer_facts('{"Layers": 5}') == layer_facts("7") == {}


def test_answers() -> None:
    text = '[\n  { "name" : "logits"\n  , "dimensions" : "1x2"\n  , "values" : [ 1.5, -2 ]\n  }\n]\n'
    (one,) = answered(text)
    assert (one.name, one.dimensions, one.values) == ("logits", "1x2", [1.5, -2.0])
    with pytest.raises(DeviceFailed, match="file of outputs cannot be read"):
        answered(text.replace("1x2", "../x"))


def test_no_text_breaks_the_readers() -> None:
    """Pieces of what is right, cut and shuffled: read, or a failure of the device; nothing else."""
    chance = random.Random(0)
    pieces = [
        LOG,
        TIMES,
        PROFILE,
        '{"Layers": [{"Name": "a", "Inputs": [',
        "\x1b[2J",
        "\ud800",
        "&&&& PASSED",
        "9" * 400,
    ]
    for _ in range(300):
        text = "".join(
            piece[chance.randrange(len(piece)) :][: chance.randrange(200)] for piece in chance.choices(pieces, k=4)
        )
        log = read_log(text)
        assert "\x1b" not in "".join([*log.warnings, *log.errors, log.gpu or ""])
        for read in (compute_times, layer_spans, layer_facts, answered):
            try:
                read(text)
            except DeviceFailed as failure:
                assert "\x1b" not in str(failure)


def test_shares_of_an_engines_time() -> None:
    layers = (
        LayerTime(name="conv", ms=2, kind="CaskConvolution", precision="int8"),
        LayerTime(name="Reformatting CopyNode for Input 0", ms=1, kind="Reformat", precision="fp16"),
        LayerTime(name="conv copy", ms=1, kind="CaskConvolution", precision="int8"),
    )
    facts = {"arms": (0,), "tensorrt": "10.3.0", "gpu": "x", "capability": "8.7", "flags": (), "seconds": 1.0,
             "cached": False, "size_bytes": 1, "sha256": "", "log_sha256": "", "log": ""}  # fmt: skip
    engine = Engine(**facts, layers=layers)
    assert engine.precision_shares() == {"int8": 0.75, "fp16": 0.25}
    assert engine.reformat_share == 0.25
    assert Engine(**facts).reformat_share is None
