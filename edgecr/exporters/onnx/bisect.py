"""The first layer of an ONNX file whose outputs are not those of the module that it was made from."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgecr.data.base import Preprocessing
from edgecr.exporters.artifact import Artifact
from edgecr.exporters.divergence import Divergence
from edgecr.exporters.onnx.compact import read_plain
from edgecr.exporters.onnx.count import weights_of_nodes
from edgecr.exporters.onnx.names import layer_name
from edgecr.predictors.onnx_predictor import AS_WRITTEN, open_session

_LIMITS = {"fp32": 1e-4, "fp16": 5e-2}
_ROUNDED = 0.5
"""A difference that is one: of the largest output of the layer. Rounding errors of 8 bits add up along the layers."""
_CONVERSIONS = ("Cast", "QuantizeLinear", "DequantizeLinear")
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def first_difference(
    module: nn.Module, artifact: Artifact, preprocessing: Preprocessing, images: np.ndarray
) -> Divergence | None:
    """Compares layer by layer on some images; None where no layer bears the same name in both.

    A layer is compared at its own output or at that of the normalisation behind it, which the file has folded into
    it: at whichever of the two is nearer.
    """
    inputs = preprocessing.apply(images)
    expected = _outputs_of_module(module, inputs)
    given = _outputs_of_file(artifact, images if artifact.preprocessing["embedded"] else inputs, set(expected))
    limit, compared, largest = _LIMITS.get(artifact.precision, _ROUNDED), 0, 0.0
    for name, values in given:
        difference = min(_difference(each, values) for each in expected[name])
        compared, largest = compared + 1, max(largest, difference)
        if not difference <= limit:
            return Divergence(name, difference, compared)
    return Divergence("", largest, compared) if compared else None


def _outputs_of_module(module: nn.Module, inputs: np.ndarray) -> dict[str, list[np.ndarray]]:
    """The output of each layer that runs once, and that of the normalisation right behind it."""
    frozen = copy.deepcopy(module).eval().cpu().float()
    found: dict[str, list[np.ndarray]] = {}
    behind: dict[str, Tensor] = {}
    runs = Counter[str]()

    def note(name: str, layer: nn.Module) -> None:
        def after(_: nn.Module, arguments: tuple[Tensor, ...], result: Tensor) -> None:
            kept = result.numpy().copy()  # an activation behind it may work in its place
            if isinstance(layer, _NORMS):
                kept = _normalised(layer, arguments[0], kept)
                for own in (own for own, output in behind.items() if output is arguments[0]):
                    found[own].append(kept)
                return
            runs[name] += 1
            found[name], behind[name] = [kept], result

        layer.register_forward_hook(after)

    for name, layer in frozen.named_modules():
        weighted = isinstance(getattr(layer, "weight", None), Tensor) and not [*layer.children()]
        if isinstance(layer, _NORMS) or weighted:
            note(name, layer)
    with torch.no_grad():
        frozen(torch.from_numpy(inputs))
    return {name: outputs for name, outputs in found.items() if runs[name] == 1}


def _normalised(
    norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, given: Tensor, result: np.ndarray
) -> np.ndarray:
    """The output of a normalisation alone: timm's have an activation within, which no file folds into a layer."""
    if norm.running_mean is None:
        return result
    mean, variance = norm.running_mean, norm.running_var
    normal: np.ndarray = functional.batch_norm(given, mean, variance, norm.weight, norm.bias, eps=norm.eps).numpy()
    return normal


def _outputs_of_file(artifact: Artifact, inputs: np.ndarray, wanted: set[str]) -> Iterator[tuple[str, np.ndarray]]:
    """The outputs of the wanted layers in the order of the graph; one whose weight several nodes share is left out."""
    model = read_plain(artifact.path)
    names = [(_in_module(name, wanted), _with_bias(model, name, output)) for name, output in weights_of_nodes(model)]
    often = Counter(name for name, _ in names)
    places = {name: output for name, output in names if name in wanted and often[name] == 1}
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(output) for output in places.values() if output not in present
    )
    session = open_session(model.SerializeToString(), 0, AS_WRITTEN)
    feed = {session.get_inputs()[0].name: inputs}
    fixed = session.get_inputs()[0].shape[0]
    if isinstance(fixed, int):
        feed = {name: values[:fixed] for name, values in feed.items()}
    return zip(places, session.run(list(places.values()), feed))


def _with_bias(model: onnx.ModelProto, weight: str, output: str) -> str:
    """The output of a layer whose bias is added apart from its product, else the given one."""
    bias, value = f"{layer_name(weight)}.bias", str(output)
    while readers := [node for node in model.graph.node if value in node.input]:
        value = str(readers[0].output[0])
        if readers[0].op_type == "Add" and any(name.startswith(bias) for name in readers[0].input):
            return value
        if len(readers) > 1 or readers[0].op_type not in _CONVERSIONS:
            break
    return output


def _in_module(tensor: str, wanted: set[str]) -> str:
    """The layer that a tensor's name stands for; a wrapper around the module adds its own name in front."""
    name = layer_name(tensor)
    while name not in wanted and name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _difference(expected: np.ndarray, given: np.ndarray) -> float:
    """The largest difference relative to the largest expected number; infinite where they cannot be compared."""
    if expected[: len(given)].shape != given.shape:
        return float("inf")
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(expected[: len(given)] - given.astype(np.float32)).max()) / scale
