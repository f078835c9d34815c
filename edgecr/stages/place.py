"""The places of stage results in a run folder.

Results that gates read are made under the recipe's own options only. A command with other options gets a result of
its own in ``extra/``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgecr.core.progress import Monitor
from edgecr.run import Run
from edgecr.stages.export import Exports


@dataclass(frozen=True)
class ResultPlace:
    """The path of a result, and the stage that vouches for it."""

    stage: str
    path: Path


def place_of(run: Run, stage: str, path: Path, key: str, own: bool, files: Exports, monitor: Monitor) -> ResultPlace:
    """The run's own place, or one beside it for other options and for files that are not the exported ones."""
    for file in files.changed:
        monitor.warn(f"{file} is not what was exported; what follows is about the file as it is now.")
    if own and not files.changed:
        return ResultPlace(stage, path)
    beside = run.beside(path, key)
    monitor.say(
        f"These are not the recipe's own options and files: the result is kept apart, in {beside}, and not judged"
    )
    return ResultPlace(f"extra/{stage}-{key[:8]}", beside)
