"""Seeds made of other numbers, so that each piece of work has randomness of its own."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int) -> int:
    """A seed of 63 bits that depends on these whole numbers and their order alone."""
    digest = hashlib.sha256(",".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
