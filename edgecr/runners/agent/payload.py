"""What a board gets of an arm: every file that its model consists of, under names that its content gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgecr.core.errors import FileProblem
from edgecr.core.files import fingerprint, sha256
from edgecr.runners.agent.memory import Need, need_of


@dataclass(frozen=True)
class Payload:
    """The files of one model: itself, and those that hold its weights, by their place beside it."""

    path: Path
    beside: tuple[str, ...]
    needs: Mapping[int, Need]
    """The memory that one inference needs, by batch."""
    hashes: Mapping[str, str]
    """The SHA-256 of each file; the model itself has the name ''."""
    size_bytes: int
    """The bytes of all files."""

    @classmethod
    def of(cls, path: Path, beside: tuple[str, ...], needs: Mapping[int, Need]) -> Payload:
        """A model as its files are now."""
        files = {"": path, **{place: path.parent / place for place in beside}}
        hashes = {place: sha256(file) for place, file in files.items()}
        return cls(path, beside, needs, hashes, sum(file.stat().st_size for file in files.values()))

    @property
    def sha256(self) -> str:
        """The hash of the one file, or one over the hashes of all of them."""
        return fingerprint(dict(self.hashes)) if self.beside else self.hashes[""]

    @property
    def name(self) -> str:
        """What the model is called in the agent's folder; its weights lie beside it, as here."""
        name, taken = f"model{self.path.suffix}", {PurePosixPath(place).parts[0] for place in self.beside}
        while name in taken:
            name = f"_{name}"
        return f"{self.sha256[:16]}/{name}"

    def files(self) -> dict[str, Path]:
        """Every file by its name in the agent's folder."""
        folder = self.sha256[:16]
        return {self.name: self.path, **{f"{folder}/{one}": self.path.parent / one for one in self.beside}}


def payload_of(path: Path, batches: Iterable[int]) -> Payload:
    """Looks into a file: for others that belong to it, of which one outside its folder is a FileProblem, and for
    what it needs with those batches. A file that onnx cannot read is sent as it is; the board tells what is wrong."""
    model = _parsed(path)
    if model is None:
        return Payload.of(path, (), dict.fromkeys(batches, Need(path.stat().st_size, 0)))
    places = dict.fromkeys(_checked(path, place) for place in external_places(model))
    return Payload.of(path, tuple(places), {batch: need_of(model, batch) for batch in batches})


def _parsed(path: Path) -> Any:
    """The model without its external weights; None when it cannot be read."""
    import onnx

    try:
        return onnx.load(path, load_external_data=False)
    except Exception:  # protobuf and onnx have several classes of errors
        return None


def external_places(model: Any) -> Iterator[str]:
    """Where the tensors of a model that lie in other files say that they are."""
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


def _checked(path: Path, place: str) -> str:
    """A place of weights as it may be sent: a file in the model's own folder or below it."""
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
