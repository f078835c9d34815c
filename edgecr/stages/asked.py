"""The question of a run, as its ``run.json`` records it, and the keys and names of the stages that answer it.

A run folder is data: targets and devices are read from the record, not looked up again among the declarations of
this machine, and nothing in the record allows code to run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from edgecr.core.errors import FileProblem
from edgecr.data.base import Dataset
from edgecr.data.views import ProofData
from edgecr.exporters.base import Target, parse_target
from edgecr.recipe import Recipe
from edgecr.report.gates.judge import check_gate_name
from edgecr.report.result import BASELINE
from edgecr.run import QUESTION, ROLES, Run, identity
from edgecr.runners.base import answers_itself, load_device
from edgecr.runners.device import Device
from edgecr.runners.manner import USUAL, Manner

SUBJECT_FILES = ("subject.json", "tensors.safetensors")
"""The files of a saved subject."""


class RunRecord(BaseModel):
    """The part of ``run.json`` that judging needs."""

    purpose: str
    created: str
    proof: str
    recipe: dict[str, Any]
    canonical: dict[str, Any]
    devices: dict[str, dict[str, Any]]
    labelled: bool = True


@dataclass(frozen=True)
class Asked:
    """The recipe of a run, with every name in it resolved as it was when the run began."""

    recipe: Recipe
    targets: tuple[Target, ...]
    devices: tuple[Device, ...]
    proof: str
    """The fingerprint of the images that exported files are proven with."""
    purpose: str
    created: str
    labelled: bool = True
    """False where nobody knows the right answers to the images."""

    @classmethod
    def of(cls, run: Run) -> Asked:
        """Reads ``run.json``; a damaged one, or one of an older version, is a FileProblem."""
        path = run.folder / "run.json"
        with _readable(path):
            record = RunRecord.model_validate(run.record, strict=True)
            recipe = Recipe.parse(record.recipe)
            exported = record.canonical.get("export")
            targets = tuple(parse_target(values) for values in (exported if isinstance(exported, list) else []))
            devices = tuple(Device.parse(values) for values in record.devices.values())
        if _but_export(record.recipe) != _but_export(record.canonical):
            raise FileProblem(f"{path} contradicts itself: its recipe was changed after the run began.")
        if not targets:
            raise FileProblem(f"{path} names no export target; run its `edgecr compress` command again.")
        for name, gate in recipe.gates.items():
            check_gate_name(name, recipe.robustness.suites, gate)
        return cls(recipe, targets, devices, record.proof, record.purpose, record.created, record.labelled)

    @property
    def names(self) -> list[str]:
        """The names of the targets; a command speaks of the first one when it is told no other."""
        return [each.name for each in self.targets]

    def stages(self, broken: Container[str] = ()) -> list[str]:
        """Every stage that the recipe asks for; nothing follows the export of a target that broke in it."""
        whole = [name for name in self.names if name not in broken]
        return [
            QUESTION,
            *(step_stage(number, step.name) for number, step in enumerate(self.recipe.steps)),
            *ROLES,
            *(export_stage(each.name, role) for each in self.targets for role in ROLES),
            *(measure_stage(device.name, target) for target in whole for device in self.devices),
            *(
                robustness_stage(suite, target, board_name(device))
                for target in whole
                for device in self.answering(target)
                for suite in self.recipe.robustness.suites
            ),
        ]

    def answering(self, target: str) -> list[Device | None]:
        """The parties that are asked about images for a target: None, this machine, and each board that can be asked.

        This machine answers for the devices that are not, and where nothing is measured.
        """
        (runtimes,) = (each.runtimes for each in self.targets if each.name == target)
        boards = [device for device in self.devices if answers_itself(device, runtimes)]
        return [*([None] if len(boards) < max(1, len(self.devices)) else []), *boards]


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Around the reading of a question: what does not fit is a FileProblem that says what to do."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = f"`{'.'.join(map(str, first['loc']))}`"
        problem = f"{place} is missing" if first["type"] == "missing" else f"{place}: {first['msg']}"
        raise FileProblem(
            f"{path} is damaged, or of another version: {problem}. Run its `edgecr compress` command again."
        ) from error


def _but_export(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values without its targets, which a canonical recipe spells out."""
    return {key: value for key, value in recipe.items() if key != "export"}


def question(recipe: Recipe, purpose: str, data: Dataset) -> dict[str, Any]:
    """The question of a run, for its ``run.json``: every name in the recipe is resolved, for judging later."""
    return {
        "name": recipe.name,
        "purpose": purpose,
        "recipe": recipe.plain(),
        "canonical": recipe.canonical(),
        "devices": {name: load_device(name).plain() for name in recipe.measure.devices},
        "data": data.fingerprint,
        "proof": ProofData.of(data).fingerprint,
        **({} if data.labelled else {"labelled": False}),
    }


def step_stage(number: int, name: str) -> str:
    """The stage of one step."""
    return f"step-{number:02d}-{name}"


def export_stage(target: str, role: str) -> str:
    """The stage of one export."""
    return f"export-{target}-{role}"


def export_failed(target: str, role: str, error: str) -> str:
    """The warning of an export that broke."""
    return f"{target}: the {role} could not be exported: {error}"


def measure_stage(device: str, target: str) -> str:
    """The stage of one measurement."""
    return f"measure-{device}@{target}"


def robustness_stage(suite: str, target: str, board: str = "") -> str:
    """The stage of one suite's answers, by this machine or by a board."""
    return "@".join(filter(None, (f"robustness-{suite}", target, board)))


def board_name(device: Device | None) -> str:
    """The name of a board that answers; empty for this machine."""
    return device.name if device else ""


def target_for(target: Target, role: str) -> Target:
    """The target that a role is exported for: a baseline stays uncompressed in its file, too."""
    return target.uncompressed() if role == BASELINE else target


def export_key(target: Target, proof: str, subject: Sequence[str]) -> str:
    """The key of an exported file; ``proof`` identifies its images, ``subject`` are the hashes of ``SUBJECT_FILES``."""
    return identity(target.plain(), proof, *subject)


def measurement_key(
    device: Device,
    batches: Sequence[int],
    launches: int | None,
    rounds: int | None,
    files: Mapping[str, str],
    manner: Manner = USUAL,
) -> str:
    """The key of a measurement; ``files`` are the hashes of the exported files by role."""
    wished = [] if manner.usual else [manner.plain()]
    return identity(device.plain(), list(batches), launches, rounds, *(files[role] for role in ROLES), *wished)


def answers_key(question: str, images: int | None) -> str:
    """The key of a suite's answers, made of the key of their question and the number of images asked for."""
    return identity(question, images)
