"""Recipes and runs: compressing, judging, and the choice of where this machine's own work runs.

Heavy libraries are imported inside of the functions: a mistake in a recipe is told before torch is loaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from edgecr.core.progress import Monitor
    from edgecr.recipe import Recipe
    from edgecr.report.result import Result
    from edgecr.run import Run
    from edgecr.training.context import Execution

AnyPath = str | os.PathLike[str]
RUNS = "runs"


class Compressed(NamedTuple):
    """The run folder of a recipe, and its report."""

    run: Run
    report: Result


def compress(
    recipe: AnyPath | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    devices: Sequence[str] = (),
    runs: AnyPath = RUNS,
    fresh: bool = False,
    threads: int = 0,
    accelerator: str = "cpu",
    train_devices: int = 1,
    allow_code: bool = False,
    quiet: bool = False,
    monitor: Monitor | None = None,
) -> Compressed:
    """Runs a recipe to its verdict, or on from where it was stopped, as ``edgecr compress`` does.

    ``recipe`` is a file, the name of a shipped recipe, or a mapping with a recipe's keys. ``overrides`` are texts
    such as ``"seed=1"``; ``devices`` are measured instead of the recipe's. ``threads`` (0: all cores) stays set for
    torch afterwards. A ``monitor`` of one's own is told what happens instead of the terminal.
    """
    changes = [*overrides, *([f"measure.devices={json.dumps(list(devices))}"] if devices else [])]
    from edgecr.recipe.inputs import refuse_own_code

    checked, purpose = _recipe(recipe, changes)  # before torch is imported
    refuse_own_code(checked, allow_code)

    from edgecr.pipeline import compress as run_pipeline

    where = execution(threads, allow_code, accelerator, train_devices)
    return Compressed(*run_pipeline(checked, purpose, Path(runs), where, monitor or progress(quiet), fresh=fresh))


def _recipe(given: AnyPath | Mapping[str, Any], changes: Sequence[str]) -> tuple[Recipe, str]:
    """The checked recipe, and the purpose that its file states."""
    from edgecr.core.errors import RequestError
    from edgecr.core.yaml_text import Document
    from edgecr.recipe import checked, load_recipe, source_purpose

    if not isinstance(given, Mapping):
        name = os.fspath(given)
        return load_recipe(name, changes), source_purpose(name)
    if changes:
        raise RequestError("A recipe given as a mapping takes no overrides; change the mapping itself.")
    return checked(Document(plain_values(given, "The recipe"))), ""


def plain_values(given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """A copy of a mapping in the types that YAML has; paths become text, numbers of numpy and torch plain ones."""
    from edgecr.core.errors import RequestError

    def plain(value: Any) -> Any:
        return value.item() if hasattr(value, "item") else os.fspath(value)

    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(given), default=plain))
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequestError(f"{what} may hold text, numbers, lists, mappings and paths only: {error}.") from error
    return found


def execution(threads: int, allow_code: bool, accelerator: str = "cpu", devices: int = 1) -> Execution:
    """The resources of this machine's own work; sets the thread count for everything after it."""
    import torch

    from edgecr.training.context import Execution

    threads = threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads
    torch.set_num_threads(threads or torch.get_num_threads())
    return Execution(torch.get_num_threads(), accelerator, devices, allow_code)


def progress(quiet: bool) -> Monitor:
    """Returns the progress display on stderr: bars on a terminal, plain lines elsewhere, notebooks included.

    A quiet one shows warnings only.
    """
    from edgecr.core.display import TerminalMonitor, WarningMonitor

    return WarningMonitor() if quiet else TerminalMonitor()


def chosen_run(given: AnyPath | Run | None, root: AnyPath = RUNS) -> Run:
    """The run that was named, or the latest one."""
    from edgecr.run import Run

    if isinstance(given, Run):
        return given
    return Run.find(Path(given)) if given is not None else Run.latest(Path(root))


def check(run: AnyPath | Run | None = None, *, runs: AnyPath = RUNS, junit: AnyPath | None = None) -> Result:
    """The report of a run, judged anew from its evidence, as ``edgecr check`` does; the latest run when left out.

    With ``junit`` the gates are written there for a build server; so is the reason where there is no report, so that
    no older file speaks for it.
    """
    from edgecr.report.render.junit import junit_file
    from edgecr.stages.judge import judged

    with junit_file(None if junit is None else Path(junit), str(getattr(run, "folder", run) or runs)) as tell:
        result = judged(chosen_run(run, runs))
        tell([result])
    return result
