"""Images in memory as the source of a recipe's data: one process can read them again, by their content."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from edgecr.core.kept import Kept
from edgecr.core.progress import Monitor
from edgecr.data.base import Dataset, DataSource, Fraction, Seed
from edgecr.data.splits import stratified

if TYPE_CHECKING:
    from edgecr.data.sets import MemorySet

_images: Kept[MemorySet] = Kept("The images")


class GivenImages(DataSource):
    """Images in memory, divided by the seed like those of a folder without splits."""

    NAME: ClassVar[str] = "given"

    name: Literal["given"]
    """Name of the source."""
    content: str
    """The start of a hash of every pixel and label."""
    classes: tuple[str, ...] = ()
    """Names of the classes; none for images without labels."""
    validation: Fraction = 0.1
    """Share of the training images that is kept for decisions."""
    test: Fraction = 0.2
    """Share of all images that is kept for the final figures."""
    seed: Seed = 0
    """Chooses which images these are."""

    @staticmethod
    def keep(images: MemorySet) -> str:
        """Keeps images for runs of this process, and returns their content."""
        content = images.digest()[:12]
        _images.put(content, images)
        return content

    @override
    def has_labels(self) -> bool:
        return bool(self.classes)

    @override
    def load(self, monitor: Monitor | None = None) -> Dataset:
        from edgecr.data.overlap import distinct, without_test_images
        from edgecr.data.sets import dataset_fingerprint

        whole = _images.get(self.content)
        parts = stratified(whole.labels, (self.validation, self.test), self.seed)
        *seen, drawn = (whole.at(part) for part in parts)
        test = distinct(drawn, monitor)
        train, validation = without_test_images(seen, test, monitor)
        return Dataset(
            name="images",
            classes=self.classes,
            train=train,
            validation=validation,
            test=test,
            preprocessing=self.preprocessing(*whole.size),
            augmentation="none",
            fingerprint=dataset_fingerprint(self.classes, (train, validation, test)),
            seen_by_steps=dataset_fingerprint(self.classes, (train, validation)),
            labelled=self.has_labels(),
        )
