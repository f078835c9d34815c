"""Decoding image files into uint8 arrays of one size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgecr.core.errors import FileProblem

_LISTED = 10
_CHUNK = 64
_SIXTEEN_BITS = 65535


DECODING = 2
"""Version of the pixels that ``decode`` makes; part of the fingerprint of images that are decoded on demand."""


def decode(file: Path, size: tuple[int, int]) -> np.ndarray:
    """One image as uint8 RGB: turned upright as its EXIF says, the short side resized, the middle cut out."""
    height, width = size
    with Image.open(file) as image:
        rgb = _eight_bits(ImageOps.exif_transpose(image)).convert("RGB")
    if rgb.size != (width, height):
        rgb = ImageOps.fit(rgb, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey levels of 16 bits scaled to 8, which Pillow would clip; 32-bit and floating-point ones have no scale."""
    if image.mode not in ("F", "I") and not image.mode.startswith("I;16"):
        return image
    levels = np.asarray(image)
    if image.mode == "F" or levels.min(initial=0) < 0 or levels.max(initial=0) > _SIXTEEN_BITS:
        raise ValueError(f"its grey levels (mode {image.mode}) have no known scale; save it with 8 or 16 bits")
    return Image.fromarray(((levels.astype(np.uint32) * 255 + _SIXTEEN_BITS // 2) // _SIXTEEN_BITS).astype(np.uint8))


def decode_all(files: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    """All images as one array (N, height, width, 3); one error names those that cannot be read."""
    pixels = np.empty((len(files), *size, 3), dtype=np.uint8)

    def fill(start: int) -> list[str]:
        bad = []
        for index in range(start, min(start + _CHUNK, len(files))):
            try:
                pixels[index] = decode(files[index], size)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                bad.append(f"{files[index]}: {_reason(error)}")
        return bad

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        bad = [line for lines in pool.map(fill, range(0, len(files), _CHUNK)) for line in lines]
    if bad:
        raise FileProblem(_bad_images(bad))
    return pixels


def _reason(error: Exception) -> str:
    """Describes the fault of a file in a few words; a missing one in the system's own words."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return getattr(error, "strerror", None) or str(error)


def _bad_images(bad: list[str]) -> str:
    more = [f"and {len(bad) - _LISTED} more"] if len(bad) > _LISTED else []
    head = "1 file cannot" if len(bad) == 1 else f"{len(bad)} files cannot"
    return "\n  ".join([f"{head} be read as images; repair or remove them:", *bad[:_LISTED], *more])
