"""Losses by name, one file each; each import registers one. Torch-free: recipes are checked with their options."""

from edgecr.training.losses import kd as kd
from edgecr.training.losses.base import AnyLoss, Loss, LossOptions, completed, losses
from edgecr.training.losses.cross_entropy import CrossEntropy, CrossEntropyOptions

__all__ = ["AnyLoss", "CrossEntropy", "CrossEntropyOptions", "Loss", "LossOptions", "completed", "losses"]
