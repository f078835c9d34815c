"""The files beside an ONNX file that its weights lie in, found without reading them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from edgecr.core.errors import FileProblem
from edgecr.core.files import opened


def weights_beside(path: Path) -> tuple[str, ...]:
    """The files that a model reads weights from, by their place in its folder; one outside of it is a FileProblem."""
    model = parsed(path)
    return tuple(dict.fromkeys(checked(path, place) for place in (() if model is None else external_places(model))))


def parsed(path: Path) -> Any:
    """The model without its external weights; None when it cannot be read."""
    import onnx

    try:
        with opened(path) as file:
            return onnx.ModelProto.FromString(file.read())
    except Exception:  # protobuf and onnx have several classes of errors
        return None


def external_places(model: Any) -> Iterator[str]:
    """Yields the declared locations of those tensors of a model that are stored in other files."""
    for tensor in _tensors(model):
        if tensor.data_location == tensor.EXTERNAL:
            yield next((one.value for one in tensor.external_data if one.key == "location"), "")


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor of a model: weights, constants, and those of inner graphs and functions."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            yield from _tensors_of_graph(graph)


def checked(path: Path, place: str) -> str:
    """A place of weights as it may be read: a file in the model's own folder or below it."""
    parts = PurePosixPath(place).parts
    odd = not parts or place.startswith("/") or ".." in parts or any(c in place for c in "\\:\0")
    if odd or not (path.parent / place).resolve().is_relative_to(path.parent.resolve()):
        raise FileProblem(
            f"{path} wants to read weights from {place!r}, which is not inside its own folder. "
            "Such a file is not sent; save the model with its weights beside it."
        )
    if not (path.parent / place).is_file():
        raise FileProblem(f"{path} keeps weights in {place!r}, which is missing there. Copy that file beside it too.")
    return str(PurePosixPath(*parts))
