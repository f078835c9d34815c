from __future__ import annotations

from edgecr.models import architecture, build
from edgecr.surgery.tracing.explain import explain


def test_every_layer_of_a_resnet_is_in_a_row_with_its_reasons() -> None:
    module = build(architecture({"arch": "resnet20", "shortcut": "B"}), 10)
    rows = explain(module, (3, 32, 32))
    stream = next(row for row in rows if row.name == "conv1")
    assert "layer1.0.conv2" in stream.layers
    assert "layer1.0.conv1" in stream.readers
    assert any(why.startswith("layer1.0: add") for why in stream.why)
    assert sum(row.removable for row in rows) == 12
    (head,) = (row for row in rows if not row.removable)
    assert (head.name, head.channels, head.why) == ("linear", 10, ("the model: output of the model",))
