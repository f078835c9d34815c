"""CIFAR-10 and CIFAR-100, fetched by torchvision once."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgecr.core.errors import FileProblem
from edgecr.core.progress import Monitor
from edgecr.data.base import Dataset, DataSource, Deviations, Fraction, Means, Seed, sources
from edgecr.data.splits import stratified


@sources.register("cifar10", "cifar100")
class Cifar(DataSource):
    """60,000 photographs of 32x32 in 10 or 100 classes (Krizhevsky 2009); downloaded once, 170 MB."""

    name: Literal["cifar10", "cifar100"]
    """Name of the source."""
    mean: Means = (0.4914, 0.4822, 0.4465)
    """Means that are subtracted from red, green and blue, on a scale from 0 to 1."""
    std: Deviations = (0.2023, 0.1994, 0.2010)
    """Standard deviations that red, green and blue are then divided by."""
    root: Path = Path("~/.cache/edgecr/data")
    """Folder that holds the archive, or that it is downloaded to."""
    validation: Fraction = 0.1
    """Share of the training images that is kept for decisions."""
    seed: Seed = 0
    """Chooses which training images are for validation."""

    def load(self, monitor: Monitor | None = None) -> Dataset:
        """Reads the archive, after downloading it where it is missing."""
        from edgecr.data.sets import MemorySet, dataset_fingerprint

        learning, testing = (self._read(train, monitor or Monitor()) for train in (True, False))
        labels = np.array(learning.targets)
        train, validation = (
            MemorySet(learning.data[part], labels[part]) for part in stratified(labels, (self.validation,), self.seed)
        )
        test = MemorySet(testing.data, np.array(testing.targets))
        return Dataset(
            name=self.name,
            classes=tuple(learning.classes),
            train=train,
            validation=validation,
            test=test,
            preprocessing=self.preprocessing(*learning.data.shape[1:3]),
            augmentation="crop-flip",
            fingerprint=dataset_fingerprint(learning.classes, (train, validation, test)),
            seen_by_steps=dataset_fingerprint(learning.classes, (train, validation)),
        )

    def _read(self, train: bool, monitor: Monitor) -> Any:
        """Torchvision's dataset; it checks the archive's files against known hashes before it reads them."""
        from torchvision import datasets

        kind = datasets.CIFAR10 if self.name == "cifar10" else datasets.CIFAR100
        root = self.root.expanduser()
        try:
            return kind(root, train=train, download=False)
        except RuntimeError:
            monitor.say(f"Downloading {self.name} (170 MB) from {kind.url} into {root}.")
        try:
            return kind(root, train=train, download=True)
        except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
            raise FileProblem(
                f"{self.name} is not in {root} and cannot be downloaded: {error}. Put {kind.filename} there, "
                "or use images in folders: --set data.name=folder --set data.root=FOLDER --set data.size=32"
            ) from error
