"""The input of an ONNX file, as far as trtexec must be told of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgecr.core.errors import FileProblem
from edgecr.predictors.onnx_weights import parsed


@dataclass(frozen=True)
class ModelInput:
    """Name, dimensions (None for open ones) and numpy's name of the number format."""

    name: str
    dims: tuple[int | None, ...]
    dtype: str

    @classmethod
    def of(cls, path: Path) -> ModelInput:
        """The one input of a file."""
        from onnx import helper

        model = parsed(path)
        if model is None:
            raise FileProblem(f"{path} is no ONNX file that can be read; export it again.")
        constants = {one.name for one in model.graph.initializer}
        inputs = [one for one in model.graph.input if one.name not in constants]
        if len(inputs) != 1:
            raise FileProblem(f"{path} has {len(inputs)} inputs; engines are measured with one.")
        kind = inputs[0].type.tensor_type
        dims = tuple(one.dim_value if one.WhichOneof("value") == "dim_value" else None for one in kind.shape.dim)
        return cls(inputs[0].name, dims, helper.tensor_dtype_to_np_dtype(kind.elem_type).name)
