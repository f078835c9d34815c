"""Raw answers under every condition, and the figures derived from them."""

from __future__ import annotations

import hashlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgecr.core.errors import FileProblem
from edgecr.core.estimate import Estimate
from edgecr.core.files import fingerprint, opened, read_json, replacing
from edgecr.core.names import inside
from edgecr.robustness.statistics import mean_difference, mean_share, paired_difference, wilson
from edgecr.robustness.suites import CLEAN

NO_ANSWER = -1
"""The choice of a model whose logits are not numbers; it is never right."""
PARTS = ("choices", "probabilities")

QUESTION_FILE = "robustness.json"
"""What was asked of every role; written when all conditions are answered."""


@dataclass(frozen=True)
class Answers:
    """What one role answered under one condition: for each image the class it chose and how sure it was."""

    choices: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def of(cls, logits: np.ndarray) -> Answers:
        """From the logits of a batch."""
        usable = np.isfinite(logits).all(axis=1)
        safe = np.where(usable[:, None], logits, 0).astype(np.float64)
        exponent = np.exp(safe - safe.max(axis=1, keepdims=True))
        top = exponent.max(axis=1) / exponent.sum(axis=1)
        choices = np.where(usable, safe.argmax(axis=1), NO_ANSWER)
        return cls(choices.astype(np.int32), np.where(usable, top, 0).astype(np.float32))

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Consecutive batches as one."""
        return cls(
            np.concatenate([part.choices for part in parts]), np.concatenate([part.probabilities for part in parts])
        )


@dataclass(frozen=True)
class RobustnessResult:
    """Every role's raw answers to one suite, condition -> role; ``clean`` is one of the conditions."""

    suite: str
    seed: int
    indices: np.ndarray
    labels: np.ndarray
    answers: Mapping[str, Mapping[str, Answers]]
    models: Mapping[str, str] = field(default_factory=dict)
    """What answered: the hash of each role's file."""
    key: str = ""
    """The question: suite, seed, images and models, as one hash."""

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The conditions without ``clean``."""
        return tuple(condition for condition in self.answers if condition != CLEAN)

    @property
    def roles(self) -> tuple[str, ...]:
        """Who answered."""
        return tuple(self.answers[CLEAN])

    def right(self, role: str, condition: str) -> np.ndarray:
        """For each image whether the role's choice is its label."""
        right: np.ndarray = self.answers[condition][role].choices == self.labels
        return right

    def accuracy(self, role: str, condition: str, confidence: float = 0.95) -> Estimate:
        """The share of right answers, with Wilson's interval."""
        return wilson(int(self.right(role, condition).sum()), len(self.labels), confidence)

    def mean_accuracy(self, role: str, confidence: float = 0.95) -> Estimate:
        """The accuracy averaged over the corruptions without ``clean``, bootstrapped over images."""
        return mean_share(self._mean_right(role), confidence, self.seed)

    def delta(
        self,
        condition: str,
        confidence: float = 0.95,
        baseline: str = "baseline",
        candidate: str = "candidate",
    ) -> Estimate:
        """Candidate's accuracy minus the baseline's, with Tango's interval from the paired answers."""
        before, after = self.right(baseline, condition), self.right(candidate, condition)
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
        return paired_difference(gained, lost, len(before), confidence)

    def mean_delta(
        self, confidence: float = 0.95, baseline: str = "baseline", candidate: str = "candidate"
    ) -> Estimate:
        """The difference averaged over the corruptions, bootstrapped over images."""
        gained = self._mean_right(candidate) - self._mean_right(baseline)
        return mean_difference(gained, confidence, self.seed)

    def _mean_right(self, role: str) -> np.ndarray:
        share: np.ndarray = np.mean([self.right(role, name) for name in self.corruptions], axis=0)
        return share

    @classmethod
    def load(cls, folder: Path) -> RobustnessResult:
        """Reads what ``evaluate`` left in a folder; anything that does not fit together is a FileProblem."""
        file = folder / QUESTION_FILE
        plan = read_json(file)
        if not isinstance(plan, dict) or plan.get("schema") != 1:
            found = plan.get("schema") if isinstance(plan, dict) else None
            raise FileProblem(f"{folder} was written by another version of EdgeCR (schema {found}).")
        try:
            if plan["key"] != question_key(plan):
                raise FileProblem(f"{file} was changed after it was written.")
            answers = {name: read_answers(inside(folder, f"{name}.npz"), plan["key"]) for name in plan["conditions"]}
            labels = np.array(plan["labels"], np.int64)
            _check_lengths(folder, labels, answers)
            indices, models, seed = np.array(plan["indices"], np.int64), dict(plan["roles"]), plan["seed"]
            if CLEAN not in answers or any(set(roles) != set(models) for roles in answers.values()):
                raise FileProblem(f"{file} tells of other models than the ones that answered.")
            if not isinstance(seed, int) or seed < 0:
                raise FileProblem(f"{file} has no seed.")
            return cls(plan["suite"], seed, indices, labels, answers, models, plan["key"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FileProblem(f"{file} is damaged: {error!r}.") from error


def question_key(plan: Mapping[str, Any]) -> str:
    """The hash of everything that a suite's answers depend on."""
    return fingerprint({name: value for name, value in plan.items() if name not in ("schema", "key")})


def _check_lengths(folder: Path, labels: np.ndarray, answers: Mapping[str, Mapping[str, Answers]]) -> None:
    for condition, roles in answers.items():
        for role, each in roles.items():
            if not labels.shape == each.choices.shape == each.probabilities.shape:
                raise FileProblem(f"{folder / condition}.npz does not hold one answer of the {role} for each image.")


def write_answers(file: Path, answers: Mapping[str, Answers], key: str) -> None:
    """Writes one condition atomically; ``key`` says which question was answered."""
    arrays = {f"{role}.{part}": getattr(each, part) for role, each in answers.items() for part in PARTS}
    with replacing(file) as temporary, temporary.open("wb") as written:
        np.savez_compressed(written, key=np.array(key), digest=np.array(_digest(arrays)), **arrays)


_NO_ANSWERS = (
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    EOFError,
    SyntaxError,
    MemoryError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""How numpy, zipfile and zlib say that an archive is damaged: each part of the format has its own way."""


def read_answers(file: Path, key: str) -> dict[str, Answers]:
    """Reads one condition; a damaged file, or one that answers another question, is a FileProblem."""
    try:
        with opened(file) as content, np.load(content, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        told, digest = str(arrays.pop("key")), str(arrays.pop("digest", ""))
        if told != key:
            raise FileProblem(f"{file} answers another question (other images, models or seed).")
        if digest != _digest(arrays):
            raise FileProblem(f"{file} was changed after it was written.")
        roles = [name.rpartition(".")[0] for name in arrays if name.endswith(".choices")]
        return {role: Answers(*(arrays[f"{role}.{part}"] for part in PARTS)) for role in roles}
    except _NO_ANSWERS as error:
        raise FileProblem(f"{file} is damaged: {error}.") from error


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The answers as one hash, so that an interrupted evaluation only goes on from what it wrote itself."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
