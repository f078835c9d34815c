"""What corruptions and suites there are. Declarations only: recipes are checked with them, before torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgecr.core.registry import Registry

CLEAN = "clean"
"""The condition that every suite is compared with: the images as they are."""


@dataclass(frozen=True)
class Corruption:
    """One way to spoil an image: an albumentations transform and its exact arguments."""

    name: str
    transform: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.name}: {self.transform}({arguments})"


@dataclass(frozen=True)
class Suite:
    """A named set of corruptions; every image undergoes each of them once."""

    name: str
    purpose: str
    corruptions: tuple[Corruption, ...] = ()

    @property
    def conditions(self) -> tuple[str, ...]:
        """The clean images first, then the corruptions, by name."""
        return (CLEAN, *(corruption.name for corruption in self.corruptions))

    def lines(self) -> list[str]:
        """One line for each corruption, with its exact arguments."""
        return [str(corruption) for corruption in self.corruptions]


corruptions: Registry[Corruption] = Registry("corruption")
suites: Registry[Suite] = Registry("suite")


def _declare(name: str, transform: str, **arguments: Any) -> Corruption:
    return corruptions.register(name)(Corruption(name, transform, arguments))


def _suite(name: str, purpose: str, *members: Corruption) -> Suite:
    return suites.register(name)(Suite(name, purpose, members))


# Standard deviations are fractions of 255 in albumentations 2; the variance meant here is 0 to 2 grey levels.
GAUSS = _declare("gauss", "GaussNoise", std_range=(0.0, math.sqrt(2) / 255), mean_range=(0.0, 0.0))
ISO = _declare("iso", "ISONoise", color_shift=(0.01, 0.05), intensity=(0.1, 0.5))
RGB_SHIFT = _declare("rgb_shift", "RGBShift", r_shift_limit=20, g_shift_limit=20, b_shift_limit=20)
PIXEL_DROPOUT = _declare("pixel_dropout", "PixelDropout", dropout_prob=0.01, per_channel=False, drop_value=0)
FOG = _declare("fog", "RandomFog", alpha_coef=0.08, fog_coef_range=(0.3, 1.0))

_suite("clean", "No corruption: only the accuracy on the images as they are.")
_suite(
    "noise5",
    "Five mild disturbances of a camera: sensor noise, ISO noise, colour shift, dead pixels and fog.",
    GAUSS,
    ISO,
    RGB_SHIFT,
    PIXEL_DROPOUT,
    FOG,
)
