"""Augmentations by name, one file each; each import registers one. Torch-free: recipes are checked with their names."""

from typing import Annotated

from edgecr.core.named import NameIn
from edgecr.training.augmentations import crop_flip as crop_flip
from edgecr.training.augmentations import none as none
from edgecr.training.augmentations import shift as shift
from edgecr.training.augmentations.base import Augmentation, augmentations

AugmentationName = Annotated[str, NameIn(augmentations)]
"""The field type of an augmentation's name."""

__all__ = ["Augmentation", "AugmentationName", "augmentations"]
