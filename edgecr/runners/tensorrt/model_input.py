"""The input of an ONNX file, as far as a shape must be named to trtexec."""

from __future__ import annotations

from pathlib import Path

from edgecr.core.errors import FileProblem
from edgecr.predictors.onnx_weights import parsed


def model_input(path: Path) -> tuple[str, list[int | None]]:
    """Name and dimensions of the one input; None for a dimension that is open."""
    model = parsed(path)
    if model is None:
        raise FileProblem(f"{path} is no ONNX file that can be read; export it again.")
    constants = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in constants]
    if len(inputs) != 1:
        raise FileProblem(f"{path} has {len(inputs)} inputs; engines are measured with one.")
    dims = inputs[0].type.tensor_type.shape.dim
    return inputs[0].name, [dim.dim_value if dim.WhichOneof("value") == "dim_value" else None for dim in dims]
