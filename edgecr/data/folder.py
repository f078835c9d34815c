"""Images in folders: one folder a class, or images without labels; with or without folders for the splits above."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from edgecr.core.errors import FileProblem
from edgecr.core.files import is_utf8
from edgecr.core.progress import Monitor
from edgecr.data.base import NO_LABEL, Augmentation, Dataset, DataSource, Fraction, Seed, sources
from edgecr.data.splits import stratified

if TYPE_CHECKING:
    from edgecr.data.sets import MemorySet, StreamSet

Side = Annotated[int, Field(ge=1, le=8192)]

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "validation", "valid"),
    "test": ("test", "testing"),
}
_DEBRIS = ("thumbs.db", "desktop.ini")
_LISTED = 10


@dataclass(frozen=True)
class Listing:
    """Image files by path below the root, and the class of each."""

    files: tuple[str, ...]
    labels: np.ndarray

    def at(self, indices: np.ndarray) -> Listing:
        """Some of them."""
        return Listing(tuple(self.files[index] for index in indices), self.labels[indices])


@sources.register("folder")
class Folder(DataSource):
    """Images in ``root/CLASS/`` or ``root/{train,val,test}/CLASS/``; missing splits are drawn by the seed.

    Images that lie in ``root/`` or ``root/{train,val,test}/`` themselves, without class folders, have no labels. A test
    image that lies in another split too is refused; parts that are drawn lose their copies of test images. Of test
    images that are alike the first one counts.
    """

    name: Literal["folder"]
    """Name of the source."""
    root: Path
    """The folder that holds the class folders, the split folders, or images without labels."""
    size: Side | tuple[Side, Side]
    """Side of the square images that the model sees, or [height, width]; the middle of each image is used."""
    validation: Fraction = 0.1
    """Share of the training images that is kept for decisions, where no folder holds them."""
    test: Fraction = 0.2
    """Share of all images that is kept for the final figures, where no folder holds them."""
    seed: Seed = 0
    """Chooses which images these are."""
    augmentation: Augmentation = "crop-flip"
    """Augmentation of the training images, unless a training chooses its own."""
    memory_limit_mb: Annotated[int, Field(ge=0)] = 2048
    """Datasets that need more decoded pixels than this are read from disk again in every epoch."""

    def load(self, monitor: Monitor | None = None) -> Dataset:
        """Lists the folders, then reads the images where they fit into memory."""
        from edgecr.data.sets import dataset_fingerprint

        root = self.root.expanduser()
        classes, listings = self._splits(root)
        size = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        needed = sum(len(listing.files) for listing in listings) * size[0] * size[1] * 3
        in_memory = needed <= self.memory_limit_mb * 2**20
        parts = [_image_set(root, listing, size, in_memory) for listing in listings]
        train, validation, test = _apart(root, listings, parts, monitor)
        return Dataset(
            name=root.resolve().name,
            classes=classes,
            train=train,
            validation=validation,
            test=test,
            preprocessing=self.preprocessing(*size),
            augmentation=self.augmentation,
            fingerprint=dataset_fingerprint(classes, (train, validation, test)),
            seen_by_steps=dataset_fingerprint(classes, (train, validation)),
            labelled=bool(classes),
        )

    @override
    def has_labels(self) -> bool:
        root = self.root.expanduser()
        if not root.is_dir() or not _only_splits(_subfolders(root)):
            return True
        return not _without_classes(root, split_folders(root))

    def _splits(self, root: Path) -> tuple[tuple[str, ...], list[Listing]]:
        """Class names, none where there are no labels, and the images for training, validation and test."""
        folders = split_folders(root)
        classes = () if _without_classes(root, folders) else _common_classes(folders)
        found = {split: _listed(root, folder, classes) for split, folder in folders.items()}
        train, held_out = found["train"], found.get("test") or found.get("validation")
        if "validation" in found and "test" in found:
            parts = [train, found["validation"], found["test"]]
        elif held_out is not None:  # one held-out folder is the test: decisions must never see it
            parts = [*self._drawn(train, self.validation), held_out]
        else:
            parts = self._drawn(train, self.validation, self.test)
        _refuse_empty(root, [len(part.files) for part in parts])
        return classes, parts

    def _drawn(self, listing: Listing, *fractions: float) -> list[Listing]:
        return [listing.at(part) for part in stratified(listing.labels, fractions, self.seed)]


def _apart(
    root: Path, listings: Sequence[Listing], parts: Sequence[MemorySet | StreamSet], monitor: Monitor | None
) -> Sequence[MemorySet | StreamSet]:
    """The parts with no test image twice or in the others: drawn ones lose their copies, given ones are refused."""
    from edgecr.data.overlap import distinct, shared, without_test_images

    *seen, test = parts
    if len(split_folders(root)) > 1:
        both = {
            listings[2].files[here]: listing.files[there]
            for part, listing in zip(seen, listings)
            for here, there in shared(test, part)
        }
        _refuse_shared(root, both)
        return [*seen, distinct(test, monitor)]
    test = distinct(test, monitor)
    kept = without_test_images(seen, test, monitor)
    _refuse_empty(root, [*map(len, kept)])
    return [*kept, test]


def _refuse_empty(root: Path, counts: Sequence[int]) -> None:
    for split, count in zip(("training", "validation", "test"), counts):
        if not count:
            raise FileProblem(f"{root} holds too few images: none is left for {split}. Add images.")


def _refuse_shared(root: Path, both: Mapping[str, str]) -> None:
    """Refuses test images that lie in another split too, by the names of both files."""
    if both:
        many = "1 test image is" if len(both) == 1 else f"{len(both)} test images are"
        listed = [f"{test} = {other}" for test, other in list(both.items())[:_LISTED]]
        more = [f"and {len(both) - _LISTED} more"] if len(both) > _LISTED else []
        raise FileProblem(
            "\n  ".join([f"In {root} {many} seen in training too, and prove nothing; remove either:", *listed, *more])
        )


@dataclass(frozen=True)
class HeldOutFolder:
    """The images of a folder that no training has seen, for judging files of which nothing else is known."""

    root: Path
    folder: Path
    """The folder below ``root`` that holds the class folders; ``root`` itself where it holds them directly."""
    classes: tuple[str, ...]
    """The names of the class folders; empty for images without labels."""
    trained: tuple[str, ...]
    """The classes of the training images beside them; empty where there are none."""
    listing: Listing

    @property
    def labelled(self) -> bool:
        """False for images that lie in no class folders."""
        return bool(self.classes)

    def load(self, listing: Listing, size: tuple[int, int], memory_limit_mb: int = 2048) -> MemorySet | StreamSet:
        """Some or all of the images at that size."""
        needed = len(listing.files) * size[0] * size[1] * 3
        return _image_set(self.root, listing, size, needed <= memory_limit_mb * 2**20)


def held_out(root: Path) -> HeldOutFolder:
    """The images in ``test/`` of a folder, else in ``val/``, else in the folder itself if its folders are classes."""
    if not root.is_dir():
        raise FileProblem(f"The image folder {root} does not exist.")
    found = _split_names(root)
    beside = [name for split in ("test", "validation") for name in found[split]]
    if not found["train"] and not (beside and _are_splits(root, beside)):
        return _held_out(root, root, ())
    for split in ("test", "validation"):
        if len(found[split]) > 1:
            raise FileProblem(f"{root} holds {' and '.join(found[split])}: each could be the one. Keep one of them.")
        if found[split]:
            trained = _subfolders(root / found["train"][0]) if found["train"] else []
            return _held_out(root, root / found[split][0], tuple(trained))
    raise FileProblem(
        f"{root} has no test images: it holds {found['train'][0]}/, but neither test/ nor val/. Images that "
        f"training has seen prove nothing. Put others into {root / 'test'}/CLASS/, or give the folder with theirs."
    )


def _held_out(root: Path, folder: Path, trained: tuple[str, ...]) -> HeldOutFolder:
    classes = tuple(_subfolders(folder))
    if not classes and not _holds_images(folder):
        raise FileProblem(f"{folder} has no test images: it holds neither class folders nor images.")
    return HeldOutFolder(root, folder, classes, trained, _listed(root, folder, classes))


def split_folders(root: Path) -> dict[str, Path]:
    """The folders of class folders by split; a flat tree is all ``train``."""
    if not root.is_dir():
        raise FileProblem(f"The image folder {root} does not exist (key data.root).")
    found = _split_names(root)
    for split, named in found.items():
        if len(named) > 1 and found["train"]:
            raise FileProblem(f"{root} holds {' and '.join(named)}, and each could be for {split}. Keep one of them.")
    if found["train"]:
        return {split: root / named[0] for split, named in found.items() if named}
    if held_out := found["validation"] + found["test"]:
        _refuse_without_training(root, held_out)
    return {"train": root}


def _split_names(root: Path) -> dict[str, list[str]]:
    """The names of the folders that could be splits, by split: they hold folders themselves.

    Where nothing but such names is there, they may hold images without labels instead.
    """
    folders = _subfolders(root)
    plain = _only_splits(folders)
    filled = [name for name in folders if _subfolders(root / name) or (plain and _holds_images(root / name))]
    return {split: [name for name in filled if name.lower() in known] for split, known in _SPLIT_NAMES.items()}


def _only_splits(folders: Sequence[str]) -> bool:
    """True for names of splits alone, and for no folders at all: any other one is a class."""
    known = {name for names in _SPLIT_NAMES.values() for name in names}
    return all(name.lower() in known for name in folders)


def _without_classes(root: Path, folders: Mapping[str, Path]) -> bool:
    """True where the splits hold images and no class folders; some with and some without are a FileProblem."""
    plain = [folder for folder in folders.values() if not _subfolders(folder) and _holds_images(folder)]
    if plain and len(plain) < len(folders):
        other = next(folder for folder in folders.values() if folder not in plain)
        raise FileProblem(
            f"{plain[0]} holds images without labels, but {other} does not. In {root} either all images lie in class "
            "folders, or none do."
        )
    return bool(plain)


def _holds_images(folder: Path) -> bool:
    """True if some file of the folder itself bears the name of an image."""
    from PIL import Image

    kinds = Image.registered_extensions()
    return any(not _is_debris(each.name) and each.suffix.lower() in kinds for each in folder.iterdir())


def _alike(root: Path, held_out: Sequence[str]) -> list[str]:
    """The other folders with the same class folders as a held-out one."""
    classes = _subfolders(root / held_out[0])
    return [name for name in _subfolders(root) if name not in held_out and _subfolders(root / name) == classes]


def _are_splits(root: Path, held_out: Sequence[str]) -> bool:
    """True for splits rather than classes that bear such names: nothing else is there, or it looks like them."""
    return bool(_alike(root, held_out)) or set(_subfolders(root)) <= set(held_out)


def _refuse_without_training(root: Path, held_out: Sequence[str]) -> None:
    """Folders that look like splits rather than classes must have one for training among them."""
    if _are_splits(root, held_out):
        alike = _alike(root, held_out)
        hint = f"; is it {' or '.join(alike)}?" if alike else "."
        raise FileProblem(
            f"{root} holds {' and '.join(held_out)}, but no folder for training. "
            f"Call the one with the training images {_SPLIT_NAMES['train'][0]}{hint}"
        )


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # it knows folders without looking at each
        found = sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")
    if odd := next((name for name in found if not is_utf8(name)), ""):
        raise FileProblem(
            f"{folder} holds a folder whose name is not UTF-8, {odd!r}: no report could name it. Rename it."
        )
    return found


def _common_classes(folders: Mapping[str, Path]) -> tuple[str, ...]:
    """The sorted class names, which all splits must share."""
    classes = _subfolders(folders["train"])
    if len(classes) < 2:
        raise FileProblem(
            f"{folders['train']} holds {len(classes)} class folders; at least two are needed: "
            "ROOT/CLASS/IMAGE, or ROOT/train/CLASS/IMAGE."
        )
    for folder in folders.values():
        if different := sorted(set(_subfolders(folder)) ^ set(classes)):
            names = ", ".join(different[:10])
            raise FileProblem(f"{folder} and {folders['train']} do not hold the same classes: {names}.")
    return tuple(classes)


def _listed(root: Path, folder: Path, classes: tuple[str, ...]) -> Listing:
    """Every file below each class folder, in sorted order; what is hidden is passed over.

    Without classes it is every file of the folder itself, without a label.
    """
    if not classes:
        files = _files(root, folder)
        return Listing(tuple(files), np.full(len(files), NO_LABEL, np.int64))
    by_class = [_files(root, folder / name) for name in classes]
    if empty := [str(folder / name) for name, files in zip(classes, by_class) if not files]:
        raise FileProblem(f"Class folders without images; fill or remove them: {', '.join(empty[:10])}.")
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(files) for files in by_class])
    return Listing(tuple(file for files in by_class for file in files), labels)


def _files(root: Path, folder: Path) -> list[str]:
    found = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        inside = Path(path).relative_to(root)
        found += [(inside / name).as_posix() for name in sorted(names) if not _is_debris(name)]
    return found


def _is_debris(name: str) -> bool:
    return name.startswith(".") or name.lower() in _DEBRIS


def _image_set(root: Path, listing: Listing, size: tuple[int, int], in_memory: bool) -> MemorySet | StreamSet:
    from edgecr.data.images import decode_all
    from edgecr.data.sets import MemorySet, StreamSet

    if not in_memory:
        return StreamSet(root, listing.files, listing.labels, size)
    return MemorySet(decode_all([root / file for file in listing.files], size), listing.labels)
