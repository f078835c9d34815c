"""Reads exported files of any tool before they are judged: what they take, what they answer, and what nobody has said.

An ONNX file does not say how its images were scaled, and often not how large they are or what its classes are called.
Such a question is answered by a manifest beside the file or by an option of the command, or the file is refused with
the question. Nothing is guessed: a model that is fed wrongly looks like a bad model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecr.core.errors import FileProblem, RequestError, UnsupportedModel
from edgecr.core.names import as_name
from edgecr.core.yaml_text import decoded, read_bytes
from edgecr.data.base import Preprocessing
from edgecr.data.scale import Channels
from edgecr.exporters.bare import artifact_of
from edgecr.predictors import preprocessing_of
from edgecr.report.result import BASELINE
from edgecr.runners.agent.payload import Payload, payload_of
from edgecr.tasks import CLASSIFICATION

HINT = (
    "torchvision's ImageNet models want --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225; models of pixels from -1 to "
    "1 want --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5; models of pixels from 0 to 1 want --mean 0,0,0 --std 1,1,1"
)
LARGEST = 8192
"""The largest side of an image."""
_SHOWN = 5


@dataclass(frozen=True)
class Given:
    """The command line's options for all files: the preprocessing of their images, and their classes in order."""

    mean: Channels | None = None
    std: Channels | None = None
    size: tuple[int, int] | None = None
    classes: Path | None = None


def sides(given: Any) -> tuple[int, int]:
    """The value of ``--size``, as text or as numbers: one side, or height and width."""
    text = given if isinstance(given, str) else "x".join(map(str, given if isinstance(given, Iterable) else [given]))
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 0 < int(part) <= LARGEST for part in parts):
        raise RequestError(f"--size {text}: give the side of the images, such as 224, or HEIGHTxWIDTH.")
    return int(parts[0]), int(parts[-1])


@dataclass(frozen=True)
class GivenFile:
    """One exported file as it is now, and what it says of itself."""

    label: str
    """``baseline``, or the name of a candidate."""
    path: Path
    payload: Payload
    batch: int | None
    """The batch size that the file is fixed to; None for any."""
    side: tuple[int | None, int | None]
    """Height and width that the file is fixed to; None for one that it leaves open."""
    classes: int | None
    """The number of classes that the file says it answers."""
    embedded: bool
    """True for a file that takes uint8 NHWC pixels and scales them itself."""
    told: Preprocessing | None
    """The preprocessing of the manifest beside the file, or of the notes in it."""
    labels: tuple[str, ...]
    """The class names of the manifest beside the file, or of the notes in it."""
    operators: frozenset[str] = field(repr=False)
    probabilities: bool = False
    """True where the last operator is a softmax: the answers are probabilities already."""

    @property
    def one_by_one(self) -> bool:
        """True for a file that scales its activations by each batch: an answer depends on the images beside it."""
        return "DynamicQuantizeLinear" in self.operators and self.batch is None


@dataclass(frozen=True)
class JudgeInputs:
    """Files that can be compared: they take the same images and answer with the same classes."""

    files: tuple[GivenFile, ...]
    """The baseline first."""
    preprocessing: Preprocessing
    answered: str
    """The source of the preprocessing, in words; empty if the files scale their images themselves."""
    batch: int
    names: tuple[str, ...]
    """The classes in the order of the outputs; empty where only the data can tell."""


def read_inputs(baseline: Path, candidates: Sequence[Path], given: Given) -> JudgeInputs:
    """Reads the files and checks that they can be compared; a RequestError says what is wrong or missing."""
    if not candidates:
        raise RequestError("There is nothing to judge: give the baseline's file, then those of the candidates.")
    labels = [BASELINE, *_labels(candidates)]
    files = tuple(_read(path, label) for path, label in zip([baseline, *candidates], labels))
    _refuse_twins(files)
    _refuse_other_classes(files)
    preprocessing, answered = _preprocessing(files, given)
    return JudgeInputs(files, preprocessing, answered, _batch(files), _names(files, given))


def _labels(paths: Sequence[Path]) -> list[str]:
    """A short name for each candidate: its file's, with the folder's where two are alike, else with a number."""
    found: list[str] = []
    for path in paths:
        stem, folder = as_name(path.stem), as_name(path.absolute().parent.name)
        choices = [stem, f"{folder}-{stem}", *(f"{stem}-{number}" for number in range(2, len(paths) + 3))]
        alike = [other for other in paths if as_name(other.stem) == stem]
        found.append(next(one for one in choices[len(alike) > 1 :] if one not in (*found, BASELINE)))
    return found


def _read(path: Path, label: str) -> GivenFile:
    from edgecr.predictors.onnx_file import describe_onnx, read_onnx  # onnx is only loaded for files

    if path.is_dir():
        raise FileProblem(f"{path} is a folder. Give the exported files themselves, the baseline's first.")
    try:
        artifact = artifact_of(path)
    except UnsupportedModel as error:
        raise FileProblem(f"{error} Export it with the image as its only input.") from error
    model, described = read_onnx(path), describe_onnx(path)
    if len(described.inputs) != 1:
        names = ", ".join(value["name"] for value in described.inputs)
        raise FileProblem(f"{path} has {len(described.inputs)} inputs ({names}); judging feeds one, the image.")
    entry, shape = described.inputs[0], _answers(path, described.outputs)["shape"]
    told = preprocessing_of(artifact) if artifact.preprocessing else None
    embedded = bool(artifact.preprocessing.get("embedded")) if told else _takes_pixels(entry)
    if len(shape) not in (0, 2):
        raise FileProblem(f"{path} answers with values of shape {_shown(shape)}; a classifier's is (batch, classes).")
    return GivenFile(
        label=label,
        path=path,
        payload=payload_of(path, ()),
        batch=_fixed(entry["shape"], 0),
        side=_side(path, entry, embedded),
        classes=_fixed(shape, 1),
        embedded=embedded,
        told=told,
        labels=tuple(artifact.labels),
        operators=frozenset(node.op_type for node in model.graph.node),
        probabilities=_ends_in_softmax(model.graph),
    )


def _answers(path: Path, outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The output that is judged: the only one, or the one that bears the task's name."""
    judged = judged_outputs([value["name"] for value in outputs])
    if len(judged) == 1:
        return next(value for value in outputs if value["name"] in judged)
    names = ", ".join(value["name"] for value in outputs)
    raise FileProblem(f"{path} has {len(outputs)} outputs ({names}); judging reads one, the classes.")


def judged_outputs(names: Iterable[str]) -> list[str]:
    """The outputs that may hold the classes: those that bear the task's names, or all where none does."""
    listed = list(names)
    return [name for name in listed if name in CLASSIFICATION.outputs] or listed


def _takes_pixels(entry: dict[str, Any]) -> bool:
    """True for uint8 NHWC: images as they are, which the file scales itself."""
    return bool(entry["dtype"] == "uint8" and entry["layout"] == "NHWC")


def _side(path: Path, entry: dict[str, Any], embedded: bool) -> tuple[int | None, int | None]:
    """The height and width that an input is fixed to; an input that EdgeCR cannot feed is refused."""
    dtype, layout, shape = entry["dtype"], entry["layout"], entry["shape"]
    wanted = ("uint8", "NHWC") if embedded else ("float32", "NCHW")
    channels = _fixed(shape, 3 if embedded else 1) if len(shape) == 4 else None
    if (dtype, layout) != wanted or channels != 3:
        raise FileProblem(
            f"{path} takes {dtype} of shape {_shown(shape)} {layout}".rstrip() + "; judging feeds RGB images, "
            "as float32 (batch, 3, height, width), or as uint8 (batch, height, width, 3) to a file that scales them "
            "itself. Export it with such an input."
        )
    height, width = (_fixed(shape, place) for place in ((1, 2) if embedded else (2, 3)))
    return height, width


def _fixed(shape: Sequence[int | None], place: int) -> int | None:
    """The size of one axis; None where the file leaves it open."""
    return (shape[place] or None) if place < len(shape) else None


def _shown(shape: Iterable[int | None]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"


def _ends_in_softmax(graph: Any) -> bool:
    """True where the output comes from a softmax, be it rounded or renamed afterwards."""
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(judged_outputs(output.name for output in graph.output)[0])
    while node is not None and node.op_type in ("Identity", "Cast", "QuantizeLinear", "DequantizeLinear"):
        node = makers.get(node.input[0])
    return node is not None and node.op_type == "Softmax"


# What must be the same of all files


def _refuse_twins(files: Sequence[GivenFile]) -> None:
    seen: dict[str, GivenFile] = {}
    for file in files:
        other = seen.setdefault(file.payload.sha256, file)
        if other is not file:
            raise RequestError(
                f"{other.path} and {file.path} are the same file (SHA-256 {file.payload.sha256[:12]}…). "
                "Comparing a file with itself says nothing; give another one."
            )


def _refuse_other_classes(files: Sequence[GivenFile]) -> None:
    """Raises for files that answer different questions."""
    counted = [file for file in files if file.classes]
    for file in counted[1:]:
        if file.classes != counted[0].classes:
            raise RequestError(
                f"{counted[0].path} answers {counted[0].classes} classes, {file.path} answers {file.classes}. "
                "Only files for the same classes can be compared."
            )
    labelled = [file for file in files if file.labels]
    for file in labelled[1:]:
        if file.labels != labelled[0].labels:
            raise RequestError(
                f"The manifests of {labelled[0].path} and {file.path} name different classes: "
                f"{difference(labelled[0].labels, file.labels)}. Only files for the same classes can be compared."
            )


def difference(one: Sequence[str], other: Sequence[str]) -> str:
    """The first place where two lists of names differ, in words."""
    for number, (left, right) in enumerate(zip(one, other)):
        if left != right:
            return f"class {number} is {left!r} in one, {right!r} in the other"
    return f"{len(one)} in one, {len(other)} in the other"


def _batch(files: Sequence[GivenFile]) -> int:
    """The batch size to measure with: that to which files are fixed, else 1."""
    fixed = {file.batch: file for file in files if file.batch}
    if len(fixed) > 1:
        told = " and ".join(f"{file.path} to {batch}" for batch, file in fixed.items())
        raise RequestError(f"The files are fixed to different batch sizes: {told}. Export them with a dynamic batch.")
    return next(iter(fixed), 1)


# How images become the files' input


def _preprocessing(files: Sequence[GivenFile], given: Given) -> tuple[Preprocessing, str]:
    """The preprocessing of all files, and its source in words; a RequestError if unknown or contradictory."""
    size = _size(files, given)
    told = [file for file in files if file.told]
    for file in told:
        _refuse_contradiction(file, told[0], given)
    silent = [file for file in files if not file.told and not file.embedded]
    if silent and not (given.mean and given.std):
        raise RequestError(_question(silent[0], told))
    if told and told[0].told:
        return told[0].told, "from the manifest or the notes in the file" + (", and the options" if silent else "")
    if silent and given.mean and given.std:
        return Preprocessing(given.mean, given.std, size), "from the options"
    if given.mean or given.std:
        raise RequestError(f"{files[0].path} takes pixels as they are and scales them. Leave --mean and --std out.")
    return Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), size), ""


def _refuse_contradiction(file: GivenFile, first: GivenFile, given: Given) -> None:
    """Raises where a manifest says something else than the options, or than another manifest."""
    for name in ("mean", "std", "size"):
        own, asked, other = (getattr(values, name) for values in (file.told, given, first.told))
        if asked and not _alike(own, asked):
            raise RequestError(
                f"{file.path} says {name} {_numbers(own)} in its manifest or its notes, the options say "
                f"{_numbers(asked)}. Leave --{name} out, or export the file anew if it is wrong."
            )
        if not _alike(own, other):
            raise RequestError(
                f"{first.path} and {file.path} say different things: {name} {_numbers(other)} and "
                f"{_numbers(own)}. Only files that take the same images can be compared."
            )


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(abs(left - right) < 1e-6 for left, right in zip(one, other, strict=True))


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _question(file: GivenFile, told: Sequence[GivenFile]) -> str:
    """The question about a file's preprocessing, and the options that answer it."""
    known = ""
    if told and told[0].told:
        values = told[0].told
        known = (
            f" If it wants them like {told[0].path.name}: --mean {_numbers(values.mean)} --std {_numbers(values.std)}."
        )
    return (
        f"How does {file.path} want its images scaled? It has no manifest beside it, and does not say. Give "
        f"the mean and the standard deviation that it was trained with, on a scale from 0 to 1.{known} {HINT}."
    )


def _size(files: Sequence[GivenFile], given: Given) -> tuple[int, int]:
    """Height and width of the images, which all who say something must agree on."""
    said: list[tuple[str, tuple[int | None, int | None]]]
    said = [(f"{file.path} takes", file.side) for file in files if any(file.side)]
    said += [(f"the manifest of {file.path} says", file.told.size) for file in files if file.told]
    said += [("--size says", given.size)] if given.size else []
    who, (height, width) = next(((who, size) for who, size in said if all(size)), ("", (None, None)))
    if not (height and width):
        raise RequestError(
            f"How large are the images that {files[0].path} takes? The file leaves height or width open. "
            "Give --size 224, or --size HEIGHTxWIDTH."
        )
    for other, found in said:
        if any(side not in (None, own) for side, own in zip(found, (height, width))):
            raise RequestError(
                f"The images have different sizes: {who} {height}x{width}, {other} "
                f"{'x'.join('any' if side is None else str(side) for side in found)}. "
                "Only files that take the same images can be compared."
            )
    return height, width


# The names of the classes


def _names(files: Sequence[GivenFile], given: Given) -> tuple[str, ...]:
    """The classes in the order of the outputs, from the option or the manifests; empty if neither tells."""
    labels = next((file.labels for file in files if file.labels), ())
    if given.classes is None:
        return labels
    names = read_names(given.classes)
    if labels and names != labels:
        raise RequestError(f"{given.classes} and the manifests name different classes: {difference(names, labels)}.")
    return names


def read_names(path: Path) -> tuple[str, ...]:
    """Class names from a text file, one a line, in the order of a model's outputs."""
    text = decoded(read_bytes(path), path).removeprefix("\ufeff")
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if not names or twice:
        wrong = f"names {twice[0]!r} twice" if twice else "is empty"
        raise FileProblem(f"{path} {wrong}. It must hold the name of one class folder a line, in the outputs' order.")
    return names


def labels_for(inputs: JudgeInputs, classes: Sequence[str], trained: Sequence[str], place: Path) -> tuple[str, ...]:
    """The classes in the order of the outputs, once the folders are known; data of other classes is refused."""
    outputs = next((file.classes for file in inputs.files if file.classes), None)
    by_name = "Give --classes FILE with the name of one class folder a line, in the order of the outputs"
    if inputs.names:
        if unknown := sorted(set(classes) - set(inputs.names)):
            shown = ", ".join(unknown[:_SHOWN]) + ("…" if len(unknown) > _SHOWN else "")
            raise RequestError(
                f"{place} holds classes that the files do not know: {shown}. They know {_few(inputs.names)}. "
                f"{by_name}, or give the data that they are for."
            )
        names = inputs.names
    elif trained and tuple(trained) != tuple(classes):
        raise RequestError(
            f"{place} and the training images beside it hold different classes ({difference(classes, trained)}), so "
            f"the order of the outputs is not known. {by_name}."
        )
    else:
        names = tuple(classes)
    if outputs is not None and outputs != len(names):
        source = "their list of classes" if inputs.names else f"{place}"
        raise RequestError(
            f"The files answer {outputs} classes, but {source} has {len(names)} ({_few(names)}). {by_name}, or give "
            "the data that they are for."
        )
    return names


def names_without_labels(inputs: JudgeInputs, trained: Sequence[str]) -> tuple[str, ...]:
    """The classes for images without class folders, as far as a list or the training images beside them name them."""
    outputs = next((file.classes for file in inputs.files if file.classes), None)
    names = inputs.names or tuple(trained)
    return names if outputs in (None, len(names)) else inputs.names


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + ("…" if len(names) > _SHOWN else "")
