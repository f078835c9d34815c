"""The proof of an engine: its answers to an artifact's stored images beside PyTorch's, asked on the board itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgecr.exporters import Artifact
from edgecr.exporters.parity import differences
from edgecr.exporters.stored_proof import PROOF, StoredProof
from edgecr.exporters.target import ParityLimits
from edgecr.predictors import preprocessing_of
from edgecr.predictors.file_predictor import FilePredictor
from edgecr.runners.tensorrt.answers import EngineAnswers
from edgecr.runners.tensorrt.engine import AGREEMENT, EngineParity
from edgecr.tasks import Outputs, tasks

FORMAT = "tensorrt"
TIES = ParityLimits(None, 1e-3, None, None)
"""Two classes whose scores differ by less than this share of the largest are equally good answers."""
ENGINE = ParityLimits(None, None, AGREEMENT, None)
"""Limits for engines: they round otherwise than their file, and two builds of one file may differ."""
Proof = Callable[[EngineAnswers], EngineParity]


def proofs(artifacts: Mapping[str, Artifact]) -> dict[str, Proof]:
    """The proof of each artifact that is for TensorRT and carries images, by its role."""
    return {
        role: _proof(artifact)
        for role, artifact in artifacts.items()
        if artifact.format == FORMAT and PROOF in artifact.evidence
    }


def _proof(artifact: Artifact) -> Proof:
    def proof(answers: EngineAnswers) -> EngineParity:
        stored, task = StoredProof.load(artifact.path.parent / PROOF), tasks.get(artifact.parity["task"])
        given = task.named(_OnBoard(artifact, answers).predict(stored.images))
        found = differences(task.named(stored.outputs), given, TIES, task)
        return EngineParity(images=len(stored.images), agreement=found.agreement, cosine=found.cosine)

    return proof


class _OnBoard(FilePredictor):
    """An engine as a predictor."""

    def __init__(self, artifact: Artifact, answers: EngineAnswers) -> None:
        embedded = bool(artifact.preprocessing.get("embedded"))
        super().__init__(artifact.path, preprocessing_of(artifact), embedded, answers.fixed, answers.most)
        self._answers = answers

    def _answer(self, inputs: np.ndarray) -> Outputs:
        return self._answers(inputs)
