"""Exports of a module in memory, and of a finished run; every file is proven before it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import torch
from torch import Tensor, nn

from edgecr.api.given import copied, subject_of
from edgecr.api.images import NONE, Data, Three, dataset_of
from edgecr.api.runs import RUNS, AnyPath, chosen_run, execution, progress
from edgecr.core.errors import RequestError
from edgecr.core.files import fingerprint
from edgecr.core.progress import Monitor
from edgecr.data.base import Dataset, Preprocessing
from edgecr.data.scale import as_keywords, checked_scale
from edgecr.data.sets import MemorySet
from edgecr.data.views import ProofData
from edgecr.exporters import Artifact, exporters, load_target
from edgecr.models.given import GivenModule
from edgecr.run import ROLES, Run
from edgecr.subject import Subject

if TYPE_CHECKING:
    from edgecr.api.pruning import PruneRecord


@overload
def export(
    what: nn.Module,
    example_input: Tensor,
    path: AnyPath,
    *,
    mean: Three,
    std: Three,
    target: str = "onnx",
    labels: Sequence[str] = (),
    data: Data | None = None,
    original: nn.Module | None = None,
    record: PruneRecord | Sequence[PruneRecord] = (),
    quiet: bool = False,
) -> Artifact: ...


@overload
def export(
    what: Run | AnyPath | None = None,
    *,
    target: str = "onnx",
    runs: AnyPath = RUNS,
    threads: int = 0,
    allow_code: bool = False,
    quiet: bool = False,
) -> list[Artifact]: ...


def export(
    what: nn.Module | Run | AnyPath | None = None,
    example_input: Tensor | None = None,
    path: AnyPath | None = None,
    *,
    mean: Three | None = None,
    std: Three | None = None,
    target: str = "onnx",
    labels: Sequence[str] = (),
    data: Data | None = None,
    original: nn.Module | None = None,
    record: PruneRecord | Sequence[PruneRecord] = (),
    runs: AnyPath = RUNS,
    threads: int = 0,
    allow_code: bool = False,
    quiet: bool = False,
) -> Artifact | list[Artifact]:
    """Writes a module as a proven file into the folder ``path``, or a run's baseline and candidate into the run.

    ``mean`` and ``std`` say how pixels become the module's input; the manifest records them. The file is compared
    with PyTorch on ``data``, or on the example, taken as 8-bit pixels. With ``original`` and the ``record`` of its
    pruning, the file's receipt recounts what was removed.
    """
    if not isinstance(what, nn.Module):
        return list(export_run(chosen_run(what, runs), [target], threads, allow_code, progress(quiet)))
    mean, std = checked_scale(mean, std, as_keywords)
    if example_input is None or path is None or mean is None or std is None:
        raise RequestError("Exporting a module needs an example input, a folder, mean and std.")
    subject = _subject(what, example_input, original, record)
    if labels and len(labels) != subject.classes:
        raise RequestError(f"There are {len(labels)} labels for {subject.classes} outputs; give one for each.")
    proof = _proof(example_input, data, mean, std, labels, progress(quiet))
    return _exported(subject, target, proof, Path(path))


def export_run(
    run: Run, targets: Sequence[str], threads: int, allow_code: bool, monitor: Monitor
) -> Iterator[Artifact]:
    """Exports a run's baseline and candidate for more targets, as ``edgecr export`` does."""
    from edgecr.stages.export import export_role, refuse_namesake
    from edgecr.stages.reload import load_again

    for target in targets:
        refuse_namesake(run, load_target(target))
    where = execution(threads, allow_code)
    with run.writing():
        data = ProofData.of(load_again(run, monitor))
        for target in targets:
            for role in ROLES:
                yield export_role(run, role, target, data, where, monitor)


def _exported(subject: Subject, target: str, proof: ProofData, folder: Path) -> Artifact:
    if folder.suffix and not folder.is_dir():
        raise RequestError(f"{folder} looks like a file; give a folder: the file and its manifest are written into it.")
    declared = load_target(target)
    return exporters.get(declared.format)().export(subject, declared, proof, folder, {"role": "", "steps": []})


def _subject(
    module: nn.Module,
    example_input: Tensor,
    original: nn.Module | None,
    record: PruneRecord | Sequence[PruneRecord],
) -> Subject:
    """The module with the surgery that made it out of the original, if both are known."""
    from edgecr.api.pruning import PruneRecord

    subject = subject_of(module, example_input)
    records = [record] if isinstance(record, PruneRecord) else list(record)
    if (original is None) != (not records):
        raise RequestError("A receipt of what was removed needs both: original=MODULE and record=RECORD.")
    if original is None:
        return subject
    surgery = tuple(cut for each in records for cut in each.surgery)
    whole = replace(subject, architecture=GivenModule.of(copied(original)), surgery=surgery)
    _check_surgery(whole)
    return whole


def _check_surgery(subject: Subject) -> None:
    """Refuses an original that the record does not lead from to the module."""
    wrong = RequestError("The record does not lead from original to this module; give the module that was pruned.")
    try:
        promised = subject.skeleton().state_dict()
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise wrong from error
    found = subject.module.state_dict()
    if {name: tensor.shape for name, tensor in promised.items()} != {name: t.shape for name, t in found.items()}:
        raise wrong


def _proof(
    example_input: Tensor, data: Data | None, mean: Three, std: Three, labels: Sequence[str], monitor: Monitor
) -> ProofData:
    """The images that the file is proven on."""
    shape = tuple(example_input.shape)
    if len(shape) != 4 or shape[1] != 3:
        raise RequestError(f"Files are exported for RGB images, (N, 3, H, W); this example has the shape {shape}.")
    preprocessing = Preprocessing(mean, std, (shape[2], shape[3]))
    if data is None:
        shown: Dataset = _example(example_input, preprocessing)
    else:
        shown = dataset_of(data, size=preprocessing.size, mean=mean, std=std, monitor=monitor)
    if shown.preprocessing != preprocessing:
        raise RequestError(
            f"The data is of {shown.preprocessing.size[0]}x{shown.preprocessing.size[1]} pixels with mean "
            f"{shown.preprocessing.mean} and std {shown.preprocessing.std}; the module's are {preprocessing.size[0]}x"
            f"{preprocessing.size[1]}, {mean} and {std}. Make them alike."
        )
    if not len(shown.validation):
        shown = replace(shown, validation=shown.train)
    return ProofData.of(replace(shown, classes=tuple(labels) or shown.classes))


def _example(example_input: Tensor, preprocessing: Preprocessing) -> Dataset:
    """The example as 8-bit pixels, the nearest ones that there are."""
    values = example_input.detach().cpu().float().permute(0, 2, 3, 1)
    pixels = ((values * torch.tensor(preprocessing.std) + torch.tensor(preprocessing.mean)) * 255).round()
    if not bool(pixels.isfinite().all()):
        raise RequestError("example_input holds values that are not finite.")
    images = MemorySet(pixels.clamp(0, 255).to(torch.uint8).numpy(), np.zeros(len(pixels), np.int64))
    return Dataset("example", (), images, images, NONE, preprocessing, "none", fingerprint([images.digest()]))
