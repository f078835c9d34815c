"""The images that a caller has, in any of several forms, as the datasets that every stage works with.

A folder or a mapping is a data source of a recipe, with its splits. Arrays and batches have none: all of them are
what the function that is called works with.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, Union, cast

import numpy as np
import torch
from torch import Tensor

from edgecr.api.runs import AnyPath, plain_values
from edgecr.core.errors import RequestError
from edgecr.core.files import fingerprint
from edgecr.core.progress import Monitor
from edgecr.core.yaml_text import Document, check
from edgecr.data import sources
from edgecr.data.base import NO_LABEL, Dataset, DataSource, ImageSet, Means, Preprocessing
from edgecr.data.scale import as_keywords, checked_scale
from edgecr.data.sets import MemorySet
from edgecr.data.views import HeldOutData

Array: TypeAlias = Union[np.ndarray, Tensor]  # noqa: UP007 - evaluated on Python 3.10, where torch's types know no |
Pair: TypeAlias = tuple[Array, Array]
Data: TypeAlias = Union[AnyPath, Mapping[str, Any], Pair, Iterable[Pair]]  # noqa: UP007
"""A folder of class folders; a mapping as under a recipe's ``data:``; ``(images, labels)``; batches of these.

Floating-point images (N, C, H, W) are a model's inputs as they are; 8-bit ones (N, H, W, 3) are pixels.
"""
Pixels: TypeAlias = Array
"""8-bit images (N, H, W, 3) without labels."""
Three: TypeAlias = tuple[float, float, float]
Size: TypeAlias = tuple[int, int]

HOW = (
    "Say how pixels become the model's input: mean=(…) and std=(…) of red, green and blue on a scale from 0 to 1; "
    "(0, 0, 0) and (1, 1, 1) where they are only divided by 255."
)
NONE = MemorySet(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0, np.int64))
"""No images at all."""


class ModelInputs(ImageSet):
    """A model's inputs in memory, kept as they are: ``as_is`` is the preprocessing that changes nothing."""

    def __init__(self, inputs: Tensor, labels: np.ndarray) -> None:
        self._inputs, self.labels = inputs.permute(0, 2, 3, 1), labels

    def images(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """The inputs at those indices, NHWC like stored pixels."""
        return self._inputs[torch.as_tensor(np.asarray(indices, dtype=np.int64))]

    def digest(self) -> str:
        """The SHA-256 of every number and label."""
        digest = hashlib.sha256(f"{tuple(self._inputs.shape)}".encode())
        digest.update(np.ascontiguousarray(self._inputs.numpy()).data)
        digest.update(self.labels.tobytes())
        return digest.hexdigest()


class NoImages(ImageSet):
    """Stands for images that nobody gave; whatever looks at one is told so."""

    labels = np.zeros(2, np.int64)

    def images(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """Raises RequestError."""
        raise RequestError(
            "This score looks at images, and there are none: give data=FOLDER, or data=(images, labels)."
        )


def as_is(channels: int, size: Size) -> Preprocessing:
    """The preprocessing of inputs that need none: the division by 255 that pixels undergo is undone."""
    return Preprocessing(cast(Means, (0.0,) * channels), cast(Means, (1 / 255,) * channels), size)


def dataset_of(
    data: Data,
    *,
    size: Size | None = None,
    mean: Three | None = None,
    std: Three | None = None,
    most_batches: int | None = None,
    monitor: Monitor | None = None,
) -> Dataset:
    """The dataset that the caller's images are; arrays and batches are its training images, and it has no others.

    ``size`` is needed for a folder. Of batches, only the first ``most_batches`` are read.
    """
    mean, std = checked_scale(mean, std, as_keywords)
    if isinstance(data, str | os.PathLike):
        if size is None:
            raise RequestError(f"Images of {os.fspath(data)} need a common size: give size=(height, width).")
        data = {"name": "folder", "root": data, "size": list(size)}
        if mean is None or std is None:
            raise RequestError(HOW)
    if isinstance(data, Mapping):
        return _loaded(data, mean, std, monitor)
    return _in_memory(*_arrays(data, most_batches), mean, std)


def without_images(size: Size) -> Dataset:
    """A dataset for work that needs no images; looking at one of its training images is a RequestError."""
    return Dataset("no images", (), NoImages(), NONE, NONE, as_is(3, size), "none", "none")


def check_images(data: Dataset, input_shape: Sequence[int], classes: int) -> None:
    """Refuses training images that a classifier with this input and so many outputs cannot be asked about."""
    found = (len(data.preprocessing.mean), *data.preprocessing.size)
    if found != tuple(input_shape):
        both = ["x".join(map(str, shape)) for shape in (found, input_shape)]
        raise RequestError(f"The data's images are {both[0]}, but the model's input is {both[1]} (channels first).")
    most = max(int(part.labels.max(initial=0)) for part in (data.train, data.validation))
    if most >= classes:
        raise RequestError(f"A label is {most}, but the model has {classes} outputs; labels count from 0.")


def pixels_of(images: Any) -> MemorySet:
    """Pixels in memory, alone or with labels, as one array or in batches; anything else is a RequestError."""
    if hasattr(images, "shape"):
        found = _tensor(images)
        labels = np.full(len(found), NO_LABEL, np.int64)
    else:
        found, labels = _arrays(images, None)
    if found.dtype != torch.uint8 or found.dim() != 4 or found.shape[3] != 3:
        raise RequestError(
            "Images in memory are pixels here, uint8 (N, height, width, 3), since files are judged on them; these are "
            f"{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}."
        )
    return MemorySet(found.numpy(), labels)


def held_out(data: Data, preprocessing: Preprocessing, monitor: Monitor) -> HeldOutData:
    """Test images for files with this preprocessing: of splits the test images, of anything without splits all."""
    if isinstance(data, str | os.PathLike):
        return _of_folder(os.fspath(data), preprocessing, monitor)
    if isinstance(data, Mapping):
        return HeldOutData.of(dataset_of(data, monitor=monitor))
    images, labels = _arrays(data, None)
    if images.is_floating_point():
        raise RequestError("Corruptions work on pixels: give images as uint8 (N, H, W, 3), not as a model's inputs.")
    return HeldOutData((), _in_memory(images, labels, preprocessing.mean, preprocessing.std).train)


def _of_folder(root: str, preprocessing: Preprocessing, monitor: Monitor) -> HeldOutData:
    """The test images of a folder with splits; every image of one without."""
    from edgecr.data.folder import split_folders

    data = _source({"name": "folder", "root": root, "size": list(preprocessing.size)}).load(monitor)
    if len(split_folders(Path(root).expanduser())) > 1:
        return HeldOutData.of(data)
    every = Joined((data.train, data.validation, data.test))
    return HeldOutData(data.classes, every, labelled=data.labelled)


class Joined(ImageSet):
    """Several image sets as one, in their order."""

    def __init__(self, parts: Sequence[ImageSet]) -> None:
        self._parts = tuple(parts)
        self.labels = np.concatenate([part.labels for part in parts])
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def images(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """The images at those indices as one uint8 NHWC tensor."""
        wanted = np.asarray(indices, dtype=np.int64)
        owner = np.searchsorted(self._starts, wanted, side="right") - 1
        here = [np.flatnonzero(owner == number) for number in range(len(self._parts))]
        found = [
            part.images(wanted[places] - start)
            for part, places, start in zip(self._parts, here, self._starts.tolist())
            if len(places)
        ]
        return torch.cat(found)[torch.from_numpy(np.argsort(np.concatenate(here), kind="stable"))]


def _loaded(values: Mapping[str, Any], mean: Three | None, std: Three | None, monitor: Monitor | None) -> Dataset:
    stated = {"mean": mean, "std": std}
    more = {key: list(value) for key, value in stated.items() if value is not None}
    return _source(plain_values(values, "data") | more).load(monitor)


def _source(values: dict[str, Any]) -> DataSource:
    """The checked data source that plain values describe."""
    name = values.get("name")
    if not isinstance(name, str):
        raise RequestError("A mapping of data needs the key 'name': folder, digits, …")
    return check(sources.get(name), Document(values))


def _is_pair(data: Any) -> bool:
    """Returns True for one pair of arrays, False for a list of batches."""
    return isinstance(data, list | tuple) and len(data) == 2 and hasattr(data[0], "shape")


def _arrays(data: Any, most: int | None) -> tuple[Tensor, np.ndarray]:
    """The images and labels of a pair of arrays, or of batches."""
    if not _is_pair(data):
        return _joined(data, most)
    images = _tensor(data[0])
    if not len(images):
        raise RequestError("The data holds no image.")
    return images, _labels(data[1], len(images))


def _joined(batches: Any, most: int | None) -> tuple[Tensor, np.ndarray]:
    """The images and labels of all batches, or of the first ones."""
    if not isinstance(batches, Iterable) and not hasattr(batches, "__getitem__"):
        raise RequestError(f"{WANTED} {type(batches).__name__} is none of these.")
    found = [_batch(batch) for batch in islice(batches, most)]  # an error of the caller's own code is left as it is
    if not found:
        raise RequestError("The data has no batch.")
    if any(images.dim() != 4 for images, _ in found):
        raise RequestError(f"{WANTED} Wrap a dataset of single images in a torch DataLoader.")
    if len({(images.dtype, images.shape[1:]) for images, _ in found}) > 1:
        raise RequestError("The batches hold images of different sizes or types; make them alike.")
    return torch.cat([images for images, _ in found]), np.concatenate([labels for _, labels in found])


def _batch(batch: Any) -> tuple[Tensor, np.ndarray]:
    try:
        images, labels = batch
    except (TypeError, ValueError) as error:
        raise RequestError(f"{WANTED} A batch here is no such pair: {error}.") from error
    found = _tensor(images)
    if not found.dim():
        raise RequestError(f"{WANTED} The images of a batch here are one number.")
    return found, _labels(labels, len(found))


WANTED = "data is a folder, a mapping, (images, labels), or batches of (images, labels)."


def _tensor(images: Any) -> Tensor:
    """Images on the CPU, as pixels or as fp32 inputs."""
    try:
        found = torch.as_tensor(images).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequestError(f"{WANTED} {type(images).__name__} cannot be read as images: {error}") from error
    found = found.clone() if found.is_inference() else found
    return found.float() if found.is_floating_point() else found


def _labels(labels: Any, count: int) -> np.ndarray:
    try:
        found = np.asarray(torch.as_tensor(labels).detach().cpu())
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequestError(f"{WANTED} {type(labels).__name__} cannot be read as labels: {error}") from error
    if found.shape != (count,) or found.dtype.kind not in "iu":
        raise RequestError(
            f"Labels are one whole number for each image; these are {found.dtype} of shape {found.shape} for "
            f"{count} images."
        )
    if count and int(found.min()) < 0:
        raise RequestError(f"Labels count from 0, but one is {int(found.min())}.")
    return found.astype(np.int64)


def _in_memory(images: Tensor, labels: np.ndarray, mean: Three | None, std: Three | None) -> Dataset:
    """Arrays as training images: pixels with the stated preprocessing, or inputs as they are."""
    shape = tuple(images.shape)
    if len(shape) == 4 and images.dtype == torch.uint8 and shape[3] == 3:
        if mean is None or std is None:
            raise RequestError(HOW)
        pixels = MemorySet(images.numpy(), labels)
        return _training_only(pixels, pixels.digest(), Preprocessing(mean, std, (shape[1], shape[2])))
    if len(shape) == 4 and images.is_floating_point():
        if mean is not None or std is not None:
            raise RequestError("mean and std are for pixels; floating-point images are a model's inputs as they are.")
        inputs = ModelInputs(images, labels)
        return _training_only(inputs, inputs.digest(), as_is(shape[1], (shape[2], shape[3])))
    raise RequestError(
        "Images are uint8 pixels (N, H, W, 3) or floating-point inputs (N, C, H, W); "
        f"these are {str(images.dtype).removeprefix('torch.')} of shape {shape}."
    )


def _training_only(images: ImageSet, digest: str, preprocessing: Preprocessing) -> Dataset:
    return Dataset("arrays", (), images, NONE, NONE, preprocessing, "none", digest)


def with_validation(data: Dataset, validation: Dataset | None) -> Dataset:
    """The same training images, with others to decide by."""
    if validation is None:
        return data
    both = fingerprint([data.fingerprint, validation.fingerprint])
    return replace(data, validation=validation.train, fingerprint=both, seen_by_steps=both)
