"""Tiny ONNX files made without EdgeCR and without torch: they tell red, green and blue images apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

COLOURS = {"blue": (30, 30, 200), "green": (30, 200, 30), "red": (200, 30, 30)}
SIZE = 8
MEANS = ("--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
ORDER = np.eye(3)[::-1].copy()
"""The red channel (the first one) answers for the last class."""


def images(root, splits=("train", "test"), classes=tuple(COLOURS), each=8, seed=0):
    """Noisy squares of one colour in class folders; a split "" puts them into the root itself."""
    random = np.random.default_rng(seed)
    for split in splits:
        for name in classes:
            folder = Path(root) / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(each):
                noise = random.integers(-30, 30, (SIZE, SIZE, 3))
                pixels = (np.array(COLOURS.get(name, (9, 9, 9))) + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return Path(root)


def colour_file(
    path,
    *,
    scale=1.0,
    order=ORDER,
    batch="n",
    shape=(3, SIZE, SIZE),
    dtype=TensorProto.FLOAT,
    inputs=1,
    outputs=1,
    softmax=False,
    beside="",
    quantised=False,
):
    """Averages each channel and gives it as the answer for one class; ``scale`` makes files with other bytes."""
    weight = numpy_helper.from_array(np.asarray(order, np.float32) * np.float32(scale), "weight")
    images_axes = "NCHW" if shape[0] in (1, 3) else "NHWC"
    nodes, last = [], "image"
    if dtype != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [last], ["real"], to=TensorProto.FLOAT))
        last = "real"
    if quantised:
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [last], ["q", "q_scale", "q_zero"]),
            helper.make_node("DequantizeLinear", ["q", "q_scale", "q_zero"], ["dq"]),
        ]
        last = "dq"
    if images_axes == "NHWC":
        nodes.append(helper.make_node("Transpose", [last], ["turned"], perm=[0, 3, 1, 2]))
        last = "turned"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["shares"]))
    answer = "shares" if softmax else "logits"
    classes = np.asarray(order).shape[1]
    given = [helper.make_tensor_value_info("image", dtype, [batch, *shape])]
    given += [helper.make_tensor_value_info(f"other{number}", dtype, [1]) for number in range(1, inputs)]
    told = [helper.make_tensor_value_info(answer, TensorProto.FLOAT, [batch, classes])]
    told += [helper.make_tensor_value_info("flat", TensorProto.FLOAT, [batch, 3])] * (outputs - 1)
    graph = helper.make_graph(nodes, "colours", given, told, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if beside:
        onnx.save(model, path, save_as_external_data=True, location=beside, size_threshold=0)
    else:
        onnx.save(model, path)
    return path


def manifest(path, **changes):
    """Writes a manifest beside a file, as an export of EdgeCR has one."""
    from edgecr.exporters.bare import artifact_of

    labels = changes.pop("labels", list(COLOURS))
    values = {"mean": [0.5] * 3, "std": [0.5] * 3, "size": [SIZE, SIZE], "embedded": False} | changes
    replace(artifact_of(path), target="onnx", precision="fp32", preprocessing=values, labels=labels).save()
