"""From a written file to an artifact: compared with PyTorch, recounted, and only then put in place."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgecr.core.errors import ExportRefused, FileProblem, RequestError, UnsupportedModel
from edgecr.core.files import storage_errors, write_json
from edgecr.data.base import Preprocessing
from edgecr.data.views import ProofData
from edgecr.exporters.artifact import MANIFEST, STEM, Artifact, FileFacts, total_size
from edgecr.exporters.parity import ParityResult
from edgecr.exporters.receipt import Receipt
from edgecr.exporters.target import PARITY_IMAGES, Target, Written
from edgecr.predictors import predictor_for
from edgecr.predictors.torch_predictor import TorchPredictor
from edgecr.subject import Subject

REFUSED = "refused.json"
"""The file in place of an artifact that was refused: the reasons, with the figures."""
_FRESH = ".export."


class Writer(Protocol):
    """An exporter, as far as its files are proven."""

    def write(self, subject: Subject, target: Any, proof: ProofData, folder: Path) -> Written:
        """Writes the files into an empty folder."""

    def receipt(self, subject: Subject, file: Path) -> Receipt:
        """Sets the promises of the surgery beside the contents of the written file."""


def export(
    exporter: Writer, subject: Subject, target: Target, proof: ProofData, folder: Path, lineage: dict[str, Any]
) -> Artifact:
    """Has the files written and proves them; files that fail parity or their receipt are not left in the folder."""
    samples = proof.parity(PARITY_IMAGES)
    if len(samples) == 0:
        raise RequestError("An export needs at least one real image to compare the file with PyTorch.")
    evidence: dict[str, Any] = {}
    try:
        with _fresh(folder) as fresh:
            written = exporter.write(subject, target, proof, fresh)
            artifact = _described(written, target, proof, fresh, lineage)
            _prove(exporter, subject, target, artifact, samples, proof, evidence)
            _clear(folder)
            _move(artifact, folder)
    except ExportRefused as error:
        _clear(folder)
        write_json(folder / REFUSED, {"schema": 1, "target": target.name, "reason": str(error)} | evidence)
        raise
    proven = replace(artifact, path=folder / written.main, parity=evidence["parity"], receipt=evidence["receipt"])
    proven.save()
    return proven


def _described(written: Written, target: Target, proof: ProofData, folder: Path, lineage: dict[str, Any]) -> Artifact:
    """The files of a folder as an artifact that is not proven yet."""
    path = folder / written.main
    if path.stem != STEM or not path.is_file():
        raise ValueError(f"the main file of an artifact is called {STEM}, with an ending; got {written.main!r}")
    others = sorted(file for file in folder.rglob("*") if file.is_file() and file != path)
    main, files = FileFacts.of(path), {file.relative_to(folder).as_posix(): FileFacts.of(file) for file in others}
    return Artifact(
        path=path,
        target=target.name,
        format=target.format,
        precision=target.precision,
        sha256=main.sha256,
        size_bytes=total_size(main, files),
        input=written.input,
        outputs=written.outputs,
        preprocessing=_recorded(proof.preprocessing, written.embedded),
        labels=list(proof.classes),
        parity={},
        receipt={},
        lineage=lineage
        | {"made_with": written.made_with}
        | ({"rounding": written.rounding} if written.rounding else {}),
        files=files,
    )


def _prove(
    exporter: Writer,
    subject: Subject,
    target: Target,
    artifact: Artifact,
    samples: np.ndarray,
    proof: ProofData,
    evidence: dict[str, Any],
) -> None:
    """ExportRefused for files that are not what the model is; what was found lies in ``evidence`` in any case."""
    from edgecr.exporters.parity import failures

    receipt = exporter.receipt(subject, artifact.path)
    evidence["receipt"] = receipt.plain()
    parity = _parity(subject, target, artifact, samples, proof)
    evidence["parity"] = parity.plain()
    reasons = [
        *(f"receipt: {why}" for why in receipt.failures()),
        *(f"parity: {why}" for why in failures(parity, target.parity.limits(target.precision))),
    ]
    if reasons:
        raise ExportRefused(
            f"The file for target {target.name!r} is not what the model is, so it was not kept: "
            + "; ".join(reasons)
            + "."
        )


def _parity(
    subject: Subject, target: Target, artifact: Artifact, samples: np.ndarray, proof: ProofData
) -> ParityResult:
    from edgecr.exporters.parity import compare

    reference = TorchPredictor(subject.module, proof.preprocessing, task=proof.task)
    try:
        limits = target.parity.limits(target.precision)
        return compare(reference, predictor_for(artifact), samples, limits, task=proof.task)
    except (FileProblem, UnsupportedModel) as error:
        why = str(error).replace(str(artifact.path), "it")
        raise ExportRefused(f"The file for target {target.name!r} does not run: {why}") from error


def _recorded(preprocessing: Preprocessing, embedded: bool) -> dict[str, Any]:
    return {
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "size": list(preprocessing.size),
        "embedded": embedded,
    }


@contextlib.contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    """An empty folder in the artifact's own, removed in the end; those that a killed export left go as well."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{_FRESH}*"):
            shutil.rmtree(left, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix=_FRESH, dir=folder))
    try:
        with storage_errors(folder):
            yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _move(artifact: Artifact, folder: Path) -> None:
    """Moves the files of an artifact into its folder; no manifest describes them yet."""
    for name in artifact.hashes:
        source, place = artifact.path.parent / name, folder / name
        with source.open("rb") as written:
            os.fsync(written.fileno())
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, place)


def _clear(folder: Path) -> None:
    """Takes away what an earlier export left: no manifest may stand beside a file it does not describe."""
    others: tuple[str, ...] = ()
    with contextlib.suppress(FileProblem):
        others = Artifact.within(folder).beside
    with storage_errors(folder):
        old = [folder / MANIFEST, *folder.glob(f"{STEM}.*"), *(folder / name for name in others), folder / REFUSED]
        for file in old:
            file.unlink(missing_ok=True)
