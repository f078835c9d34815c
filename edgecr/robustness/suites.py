"""The corruptions and suites that there are. Declarations only: recipes are checked with them, before torch."""

from __future__ import annotations

import math
from typing import Any

from edgecr.robustness.conditions import CLEAN, Albumentation, Corruption, Suite, corruptions, declare_suite, suites

__all__ = ["CLEAN", "Corruption", "Suite", "corruptions", "suites"]


def _transform(name: str, transform: str, **arguments: Any) -> Albumentation:
    made = Albumentation(name=name, transform=transform, arguments=arguments)
    corruptions.register(name)(made)
    return made


# Standard deviations are fractions of 255 in albumentations 2; the variance meant here is 0 to 2 grey levels.
GAUSS = _transform("gauss", "GaussNoise", std_range=(0.0, math.sqrt(2) / 255), mean_range=(0.0, 0.0))
ISO = _transform("iso", "ISONoise", color_shift=(0.01, 0.05), intensity=(0.1, 0.5))
RGB_SHIFT = _transform("rgb_shift", "RGBShift", r_shift_limit=20, g_shift_limit=20, b_shift_limit=20)
PIXEL_DROPOUT = _transform("pixel_dropout", "PixelDropout", dropout_prob=0.01, per_channel=False, drop_value=0)
FOG = _transform("fog", "RandomFog", alpha_coef=0.08, fog_coef_range=(0.3, 1.0))

declare_suite("clean", "No corruption: only the accuracy on the images as they are.")
declare_suite(
    "noise5",
    "Five mild disturbances of a camera: sensor noise, ISO noise, colour shift, dead pixels and fog.",
    GAUSS,
    ISO,
    RGB_SHIFT,
    PIXEL_DROPOUT,
    FOG,
)
