"""The stored proof of an artifact as a question to any predictor: of this machine, or of a board."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import TypeAdapter

from edgecr.core.errors import FileProblem
from edgecr.core.files import refused_as
from edgecr.exporters.artifact import Artifact
from edgecr.exporters.parity import ParityResult, compare, failures
from edgecr.exporters.stored_proof import PROOF, StoredProof
from edgecr.exporters.target import ParityLimits
from edgecr.predictors import Predictor
from edgecr.tasks import tasks

AGAIN = "export the model again"
"""The remedy for a manifest that tells nothing, or something else than an export writes."""
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError)
"""Exceptions of reading a record that has other values than an export writes."""


@dataclass(frozen=True)
class StoredQuestion:
    """Images with PyTorch's outputs for them, the limits within which others may differ, and the name of the task."""

    proof: StoredProof
    allowed: ParityLimits
    task: str

    @classmethod
    def of(cls, artifact: Artifact) -> StoredQuestion | None:
        """The question that an artifact carries; None where it has none, FileProblem where it is damaged."""
        if PROOF not in artifact.evidence:
            return None
        with as_recorded("parity"):
            stored = StoredProof.load(artifact.path.parent / PROOF)
            told = artifact.parity["stored"]
            with refused_as("the manifest has damaged limits of parity"):
                allowed = TypeAdapter(ParityLimits).validate_python(told["limits"], strict=True)
            if len(stored.images) != told["images"]:
                raise FileProblem(f"{PROOF} holds {len(stored.images)} images, {told['images']} are recorded")
            return cls(stored, allowed, artifact.parity["task"])

    def put_to(self, predictor: Predictor) -> ParityResult:
        """The differences of a predictor's answers."""
        return compare(self.proof, predictor, self.proof.images, self.allowed, tasks.get(self.task))

    def failures(self, result: ParityResult) -> list[str]:
        """The limits that a result breaks, in words; empty when it passes."""
        return failures(result, self.allowed)


@contextlib.contextmanager
def as_recorded(part: str) -> Iterator[None]:
    """Around the use of a part of a manifest: values that no export writes are a FileProblem."""
    try:
        yield
    except _MALFORMED as error:
        raise FileProblem(f"The manifest has a damaged {part} ({error!r}); {AGAIN}.") from error
