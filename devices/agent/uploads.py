"""Files of the host that stay on the board, under their hash, so that the next session need not send them again."""

import os
from typing import Any, Dict

from . import cache, inbox

OPS = ("have", "keep")


def perform(request: Dict[str, Any], work: str) -> Dict[str, Any]:
    """Puts a file that was kept into the work folder, or keeps one that was uploaded; tells whether it could."""
    kept, path = cache.Cache("uploads", request["budget_mb"]), inbox.place(work, request["name"])
    if request["op"] == "keep":
        return {"kept": kept.store(request["sha256"], path) is None}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    found = inbox.lack_of_space(work, 0) is None and kept.take(request["sha256"], path)
    if found and cache.digest_of(path, None) != request["sha256"]:
        kept.forget(request["sha256"])  # it was stored under a hash that is not its own
        os.remove(path)
        found = False
    return {"found": found}
