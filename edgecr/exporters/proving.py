"""From a written file to an artifact: compared with PyTorch, recounted, and only then put in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgecr.core.errors import ExportRefused, FileProblem, RequestError, UnsupportedModel
from edgecr.core.files import is_utf8
from edgecr.data.base import Preprocessing
from edgecr.data.views import ProofData
from edgecr.exporters.artifact import STEM, Artifact, FileFacts, total_size
from edgecr.exporters.divergence import Divergence
from edgecr.exporters.folder import ExportFolder
from edgecr.exporters.parity import ParityResult, compare, differences, failures, limits_of_some
from edgecr.exporters.receipt import Receipt
from edgecr.exporters.stored_proof import PROOF, StoredProof
from edgecr.exporters.target import BINARY, PARITY_IMAGES, ParityLimits, Target, Written
from edgecr.predictors import predictor_for
from edgecr.predictors.torch_predictor import TorchPredictor
from edgecr.subject import Subject
from edgecr.surgery.sign_inputs import layers_that_see_signs

_LOOKED_AT = 2
"""Images that a layer is looked for with; each keeps the outputs of all layers in memory."""


class Writer(Protocol):
    """An exporter, as far as its files are proven."""

    def write(self, subject: Subject, target: Any, proof: ProofData, folder: Path) -> Written:
        """Writes the files into an empty folder."""

    def receipt(self, subject: Subject, file: Path) -> Receipt:
        """Sets the promises of the surgery beside the contents of the written file."""

    def locate(self, subject: Subject, artifact: Artifact, images: np.ndarray, proof: ProofData) -> Divergence | None:
        """Finds the first layer whose outputs are not the model's."""


def export(
    exporter: Writer, subject: Subject, target: Target, proof: ProofData, folder: Path, lineage: dict[str, Any]
) -> Artifact:
    """Has the files written and proves them; those that fail parity or their receipt are set aside as rejected."""
    samples = proof.parity(PARITY_IMAGES)
    if len(samples) == 0:
        raise RequestError("An export needs at least one real image to compare the file with PyTorch.")
    _refuse_half_characters(proof.classes)
    case = _Case(exporter, subject, target, proof, samples)
    artifact: Artifact | None = None
    with ExportFolder.held(folder) as place:
        place.check([target.main] if target.main else [])
        try:
            artifact = _described(
                exporter.write(subject, target, proof, place.fresh), target, proof, place.fresh, lineage
            )
            place.check(artifact.hashes)
            case.prove(artifact).save(place.fresh)
        except ExportRefused as error:
            place.refuse(artifact, {"schema": 1, "target": target.name, "reason": str(error)} | case.findings)
            raise
        found, evidence = case.findings, {PROOF: FileFacts.of(place.fresh / PROOF)}
        return place.keep(replace(artifact, evidence=evidence, parity=found["parity"], receipt=found["receipt"]))


def _refuse_half_characters(labels: Sequence[str]) -> None:
    for label in labels:
        if not is_utf8(label):
            raise RequestError(f"The label {label!r} is not UTF-8, and no file could hold it. Rename that class.")


def _described(written: Written, target: Target, proof: ProofData, folder: Path, lineage: dict[str, Any]) -> Artifact:
    """The files of a folder as an artifact that is not proven yet."""
    path = folder / written.main
    if path.stem != STEM or not path.is_file():
        raise ValueError(f"the main file of an artifact is called {STEM}, with an ending; got {written.main!r}")
    others = sorted(file for file in folder.rglob("*") if file.is_file() and file != path)
    if folder / PROOF in others:
        raise ValueError(f"{PROOF} is the name of an artifact's proof; an exporter may not write it")
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


@dataclass(frozen=True)
class _Case:
    """The files of one export on trial."""

    exporter: Writer
    subject: Subject
    target: Target
    proof: ProofData
    samples: np.ndarray
    findings: dict[str, Any] = field(default_factory=dict)
    """Receipt and parity, as far as they were looked at, whether or not the files pass."""

    @property
    def limits(self) -> ParityLimits:
        """The limits of the target's precision, or the target's own.

        A float file of a network with signs inside is judged like a binary one: sums in another order turn some signs.
        """
        exact = self.target.precision == "fp32"
        signs = exact and layers_that_see_signs(self.subject.module)
        return self.target.parity.limits(BINARY if signs else self.target.precision)

    def prove(self, artifact: Artifact) -> StoredProof:
        """ExportRefused for files that are not what the model is; else what proves it anywhere."""
        receipt = self.exporter.receipt(self.subject, artifact.path)
        self.findings["receipt"] = receipt.plain()
        parity, kept = self._parity(artifact)
        reasons = [f"receipt: {why}" for why in receipt.failures()]
        if differences := failures(parity, self.limits):
            reasons += [f"parity: {why}" for why in differences]
            if where := self._place(artifact):
                self.findings["divergence"] = where.plain()
                reasons.append(where.words)
        if reasons:
            raise ExportRefused(
                f"The file for target {self.target.name!r} is not what the model is, so it was not kept: "
                + "; ".join(reasons)
                + "."
            )
        return kept

    def _parity(self, artifact: Artifact) -> tuple[ParityResult, StoredProof]:
        """The comparison with PyTorch, and the part of its answers that is stored."""
        task, limits = self.proof.task, self.limits
        reference = TorchPredictor(self.subject.module, self.proof.preprocessing, task=task)
        try:
            known = StoredProof(self.samples, task.named(reference.predict(self.samples)))
            candidate = predictor_for(artifact)
            parity, kept = compare(known, candidate, self.samples, limits, task=task), known.part()
            shown = differences(kept.outputs, task.named(candidate.predict(kept.images)), limits, task)
        except (FileProblem, UnsupportedModel) as error:
            why = str(error).replace(str(artifact.path), "it")
            raise ExportRefused(f"The file for target {self.target.name!r} does not run: {why}") from error
        stored = limits_of_some(limits, known.outputs, kept.outputs, shown)
        self.findings["parity"] = parity.plain() | {
            "task": task.name,
            "limits": limits._asdict(),
            "stored": {"images": len(kept.images), "limits": stored._asdict()},
        }
        return parity, kept

    def _place(self, artifact: Artifact) -> Divergence | None:
        """The layer in which the file and PyTorch begin to differ, where it can be told."""
        try:
            return self.exporter.locate(self.subject, artifact, self.samples[:_LOOKED_AT], self.proof)
        except Exception:  # any library may fail on a file that is wrong; the refusal matters more than this
            return None


def _recorded(preprocessing: Preprocessing, embedded: bool) -> dict[str, Any]:
    return {
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "size": list(preprocessing.size),
        "embedded": embedded,
    }
