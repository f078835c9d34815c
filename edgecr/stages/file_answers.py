"""Asks exported files that a user names about clean and corrupted images; nothing of it is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgecr.core.errors import RequestError, UnknownName
from edgecr.core.progress import Monitor
from edgecr.data import Dataset, DataSource, sources
from edgecr.data.folder import Folder
from edgecr.data.views import HeldOutData
from edgecr.exporters import Artifact
from edgecr.predictors import preprocessing_of
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.result import RobustnessResult
from edgecr.robustness.suites import suites
from edgecr.run import Run
from edgecr.runners.device import Device
from edgecr.stages.answerers import answerers
from edgecr.stages.files import named_files
from edgecr.stages.reload import load_again
from edgecr.stages.robustness import chosen_images


def answers_of_files(
    files: Sequence[Path], suite: str, data: str | None, images: int | None, device: Device | None, monitor: Monitor
) -> RobustnessResult:
    """Asks exported files about clean and corrupted test images; nothing is kept."""
    artifacts = named_files(files)
    suites.get(suite)  # an unknown suite is refused before images are read
    return answers_of(artifacts, suite, HeldOutData.of(_images_for(artifacts, data, monitor)), images, monitor, device)


def answers_of(
    artifacts: Mapping[str, Artifact],
    suite: str,
    held_out: HeldOutData,
    images: int | None,
    monitor: Monitor,
    device: Device | None = None,
    seed: int = 0,
) -> RobustnessResult:
    """The answers of artifacts to images that may be of other classes, which is refused."""
    if not held_out.labelled and len(artifacts) < 2:
        raise RequestError("These images have no labels: give two files, the baseline first, to see where they agree.")
    for artifact in artifacts.values():
        _refuse_other_classes(artifact, held_out)
    identities = {role: artifact.identity for role, artifact in artifacts.items()}
    chosen = chosen_images(held_out, images, seed)
    with (
        answerers(artifacts, device, monitor) as asked,
        tempfile.TemporaryDirectory(prefix="edgecr-robustness-") as folder,
    ):
        return evaluate(
            asked.predictors,
            suites.get(suite),
            held_out.test,
            Path(folder),
            indices=chosen,
            seed=seed,
            identities=identities,
            monitor=monitor,
            task=held_out.task,
            labelled=held_out.labelled,
            answered_by=asked.answered_by,
        )


def _refuse_other_classes(artifact: Artifact, held_out: HeldOutData) -> None:
    """Raises for images of other classes than a file was made for, as far as both are known."""
    if artifact.labels and held_out.classes and tuple(artifact.labels) != held_out.classes:
        raise RequestError(
            f"{artifact.path} tells {len(artifact.labels)} classes apart ({', '.join(artifact.labels[:5])}…), "
            f"the images are of {len(held_out.classes)} ({', '.join(held_out.classes[:5])}…). "
            "Give the data that it was trained for."
        )
    shape, labels = artifact.outputs[0].get("shape"), held_out.test.labels
    if shape and shape[-1] is not None and len(labels) and int(labels.max()) >= shape[-1]:
        raise RequestError(f"{artifact.path} has {shape[-1]} outputs, but a label is {int(labels.max())}.")


def _images_for(artifacts: Mapping[str, Artifact], data: str | None, monitor: Monitor) -> Dataset:
    """The images that a user names, or those of the run that the files lie in."""
    last = list(artifacts.values())[-1]
    run = _run_around(last.path)
    if data is None and run is None:
        raise RequestError(
            f"{last.path} does not lie in a run, so nothing says which images to show it. "
            f"Add --data DIR, or --data with one of {', '.join(sources)}."
        )
    if data is None and run is not None:
        return load_again(run, monitor)
    found = _named_data(str(data), preprocessing_of(last).size).load(monitor)
    if found.labelled:
        monitor.warn(
            "Nothing tells whether the model was trained on these images; if it was, its accuracy is too high."
        )
    return found


def _named_data(name: str, size: tuple[int, int]) -> DataSource:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Folder.parse({"name": "folder", "root": str(folder), "size": list(size)})
    if name not in sources:
        raise UnknownName("dataset or folder", name, sources)
    return sources.get(name).parse({"name": name})


def _run_around(path: Path) -> Run | None:
    """The run whose folder a file lies in, if it does."""
    return next((Run(folder) for folder in path.resolve().parents if (folder / "run.json").is_file()), None)
