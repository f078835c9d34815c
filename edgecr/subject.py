"""The model under work: architecture + surgery + tensors, never a pickled object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field
from torch import nn

from edgecr.core.errors import FileProblem, RequestError, UnknownName
from edgecr.core.files import read_json, refused_as, replacing_folder, write_json
from edgecr.models import Architecture, architecture, build
from edgecr.surgery.changes import Change, Promise, promised, read_change, replay
from edgecr.weights import load_into, read_tensors, write_tensors

SCHEMA, UNTAGGED = 2, 1
"""Records of schema 1 held cuts alone, without a tag; they are still read."""
Side = Annotated[int, Field(ge=1, le=65536)]


class _Described(BaseModel):
    """The description of a model in ``subject.json``."""

    architecture: dict[str, Any]
    classes: Annotated[int, Field(ge=1, le=1_000_000)]
    input_shape: tuple[Side, Side, Side]
    surgery: tuple[dict[str, Any], ...]

    def changes(self, file: Path) -> Iterator[Change]:
        """The changes; one that is damaged, or of a kind unknown here, is a FileProblem."""
        for number, record in enumerate(self.surgery):
            with refused_as(f"{file} does not describe a model: surgery.{number}"):
                try:
                    yield read_change(record)
                except UnknownName as error:
                    raise FileProblem(f"{file} does not describe a model that can be rebuilt here: {error}") from error


@dataclass(frozen=True)
class Subject:
    """One model: rebuilding the architecture, replaying the surgery and loading the tensors gives it back."""

    architecture: Architecture
    classes: int
    input_shape: tuple[int, int, int]
    module: nn.Module
    surgery: tuple[Change, ...] = field(default=())

    @classmethod
    def create(
        cls,
        declared: Architecture,
        classes: int,
        size: tuple[int, int],
        seed: int,
        *,
        allow_code: bool = False,
        trained: bool = False,
    ) -> Subject:
        """A freshly initialised subject; loads the declared weights when there are any.

        With ``trained``, published weights that leave a part untrained are refused.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = build(declared, classes, allow_code=allow_code)
        untrained = declared.fetch_weights(module)
        if trained and untrained:
            raise RequestError(
                f"The published weights of {declared.arch} leave {', '.join(untrained[:4])} untrained: they are "
                f"not for {classes} classes. Train it on this data first, then name that run or its weights."
            )
        if declared.weights is not None:
            load_into(module, declared.weights)
        return cls(declared, classes, (3, *size), module)

    def with_changes(self, *changes: Change) -> Subject:
        """The same subject with changes added to its record; the module must have undergone them already."""
        return replace(self, surgery=(*self.surgery, *changes))

    def with_module(self, module: nn.Module) -> Subject:
        """The same record around another module of the same structure."""
        return replace(self, module=module)

    def skeleton(self, *, allow_code: bool = False) -> nn.Module:
        """The architecture with the record replayed, freshly initialised: the shapes that the surgery promises."""
        module = self._fresh(allow_code=allow_code)
        replay(module, self.surgery)
        return module

    def promise(self, *, allow_code: bool = False) -> Promise:
        """The sum of what the changes promise to be found in an exported file; nothing is built for none."""
        if not self.surgery:
            return Promise()
        return promised(self._fresh(allow_code=allow_code), self.surgery)

    def _fresh(self, *, allow_code: bool) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            return build(self.architecture, self.classes, allow_code=allow_code)

    def save(self, folder: Path) -> None:
        """Writes ``subject.json`` and ``tensors.safetensors``, atomically as one folder."""
        with replacing_folder(folder) as temporary:
            write_tensors(temporary / "tensors.safetensors", self.module.state_dict())
            write_json(temporary / "subject.json", self.record())

    def declared(self) -> dict[str, Any]:
        """The architecture as plain JSON values, without the file that its first tensors came from."""
        return self.architecture.model_dump(mode="json", exclude_defaults=True, exclude={"weights"})

    def record(self) -> dict[str, Any]:
        """Everything but the tensors, as plain JSON values."""
        return {
            "schema": SCHEMA,
            "architecture": self.declared(),
            "classes": self.classes,
            "input_shape": list(self.input_shape),
            "surgery": [change.plain() for change in self.surgery],
        }

    @classmethod
    def load(cls, folder: Path, *, allow_code: bool = False) -> Subject:
        """Rebuilds a saved subject."""
        file, tensors = folder / "subject.json", folder / "tensors.safetensors"
        record = read_json(file)
        if not isinstance(record, dict) or record.get("schema") not in (UNTAGGED, SCHEMA):
            found = record.get("schema") if isinstance(record, dict) else None
            raise FileProblem(f"{folder} was written by another version of EdgeCR (schema {found}).")
        with refused_as(f"{file} does not describe a model"):
            described = _Described.model_validate_json(json.dumps(record), strict=True)
        declared = architecture(described.architecture)
        surgery = tuple(described.changes(file))
        subject = cls(declared, described.classes, described.input_shape, nn.Identity(), surgery)
        try:
            module = subject.skeleton(allow_code=allow_code)
        except (AttributeError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise FileProblem(f"{file} tells of surgery that its architecture cannot undergo: {error}.") from error
        state = read_tensors(tensors)
        try:
            module.load_state_dict(state)
        except RuntimeError as error:  # torch has no other class for what does not fit
            raise FileProblem(f"{tensors} does not fit the model that {file.name} describes: {error}") from error
        return subject.with_module(module.eval())
