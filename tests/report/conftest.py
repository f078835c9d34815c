import base64

import numpy as np
import pytest

from edgecr.report.build import build_result
from edgecr.report.gates.judge import Gate
from edgecr.report.result import ExportRow, LatencyRow, StepRow
from edgecr.robustness.examples import Answer, Example, png_text
from tests.report.miniatures import answered, latency, models


@pytest.fixture
def full():
    """A result with something in every room, and texts that want to break out."""
    image = png_text(np.zeros((8, 8, 3), dtype=np.uint8))
    assert base64.b64decode(image).startswith(b"\x89PNG")
    answers = {"baseline": Answer("<i>cat", 0.9, True), "candidate": Answer("dog", 0.8, False)}
    counts = {"channels": 100, "weights": 2000, "macs": 30000}
    file = ExportRow(
        "candidate",
        "onnx",
        "model.onnx",
        "onnx",
        "fp32",
        400_000,
        "ab" * 32,
        {"images": 64, "max_abs": 2e-6, "agreement": 1.0},
        {"baseline": counts, "promised": counts, "file": counts, "warnings": ["3 zero channels"]},
    )
    gates = {
        "clean_accuracy": Gate(drop=0.01),
        "noise5_accuracy": Gate(drop=0.02, confidence=0.95),
        "latency_p50": Gate(ratio=0.7),
        "latency_p99": Gate(max=9.0),
        "size": Gate(ratio=0.3),
    }
    return build_result(
        name="tricky | <script>alert(1)</script>",
        id="tricky-12345678",
        gates=gates,
        models=models(),
        exports=[file],
        latency=[latency(1.2), LatencyRow("jetson", None, error="no answer & no reason")],
        robustness=[answered({"clean": 1, "fog": 30})],
        purpose="Small & 'quoted' \"fast\"",
        recipe="name: x\n# </pre><img src=x>\n```",
        created="2026-01-01",
        environment={"cpu": "A <b> C"},
        steps=[StepRow("train", '{"epochs": 3}', 12.0, {"loss": "0.1"})],
        examples=[Example("noise5", "fog", 7, "<i>cat", answers, image, image)],
    )
