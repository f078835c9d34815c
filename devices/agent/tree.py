"""Readings of small files below a root, so that a test gives a board of its own; what cannot be read is None."""

import glob
import os
import re
from typing import Iterator, List, Optional, Tuple

WHOLE = r"-?(0x[0-9a-fA-F]+|\d+)$"


def read(path: str, most: int = 65536) -> Optional[str]:
    """The text of a small file."""
    try:
        with open(path, "rb") as file:
            return file.read(most).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return None


def number(path: str) -> Optional[int]:
    """The one number in a file."""
    text = read(path)
    return int(text, 0) if text and re.match(WHOLE, text) and not re.match(r"-?0\d", text) else None


def match(path: str, pattern: str) -> Optional[str]:
    """The first group of a pattern in a file."""
    found = re.search(pattern, read(path) or "")
    return found.group(1).strip() if found else None


def below(root: str, pattern: str) -> List[str]:
    """The paths below a root that fit a pattern, in order."""
    return sorted(glob.glob(os.path.join(glob.escape(root), pattern)))


def hwmon(root: str) -> Iterator[Tuple[str, str]]:
    """Name and folder of each hardware monitor."""
    for folder in below(root, "sys/class/hwmon/hwmon*"):
        name = read(os.path.join(folder, "name"))
        if name:
            yield name, folder
