"""The images of a finished run, loaded again: refused when they are not the ones that the run was made with."""

from __future__ import annotations

from edgecr.core.errors import FileProblem
from edgecr.core.files import refused_as
from edgecr.core.progress import Monitor
from edgecr.data import Dataset
from edgecr.recipe import Recipe
from edgecr.run import Run


def load_again(run: Run, monitor: Monitor) -> Dataset:
    """The dataset of a run; its test images must still be the ones that no step has seen."""
    record = run.record
    with refused_as(f"{run.folder / 'run.json'} does not hold a recipe"):
        data = Recipe.parse(record.get("recipe")).data.load(monitor)
    if data.fingerprint != record.get("data"):
        raise FileProblem(
            f"The images of {data.name} have changed since {run.folder} was made: its splits may be others now, and "
            "test images may have been trained on. Restore the images, or run the recipe again: "
            f"edgecr compress {run.folder / 'recipe.yaml'}"
        )
    return data
