"""The model under work: architecture + surgery + tensors, never a pickled object."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgecr.errors import FileProblem, RequestError
from edgecr.files import read_json, replacing_folder, write_json
from edgecr.models import Architecture, architecture, build
from edgecr.surgery.removal import ChannelCut, replay
from edgecr.weights import load_into, read_tensors, write_tensors


@dataclass(frozen=True)
class Subject:
    """One model: rebuilding the architecture, replaying the surgery and loading the tensors gives it back."""

    architecture: Architecture
    classes: int
    input_shape: tuple[int, int, int]
    module: nn.Module
    surgery: tuple[ChannelCut, ...] = field(default=())

    @classmethod
    def create(
        cls, declared: Architecture, classes: int, size: tuple[int, int], seed: int, *, allow_code: bool = False,
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

    def cut(self, *cuts: ChannelCut) -> Subject:
        """The same subject with cuts added to its record; the module must have undergone them already."""
        return replace(self, surgery=(*self.surgery, *cuts))

    def with_module(self, module: nn.Module) -> Subject:
        """The same record around another module of the same structure."""
        return replace(self, module=module)

    def skeleton(self, *, allow_code: bool = False) -> nn.Module:
        """What the surgery promises: the architecture with the record replayed, freshly initialised."""
        with torch.random.fork_rng(devices=[]):
            module = build(self.architecture, self.classes, allow_code=allow_code)
        replay(module, self.surgery)
        return module

    def save(self, folder: Path) -> None:
        """Writes ``subject.json`` and ``tensors.safetensors``, atomically as one folder."""
        with replacing_folder(folder) as temporary:
            write_tensors(temporary / "tensors.safetensors", self.module.state_dict())
            write_json(temporary / "subject.json", self.record())

    def record(self) -> dict[str, Any]:
        """Everything but the tensors, as plain JSON values."""
        return {
            "schema": 1,
            "architecture": self.architecture.model_dump(mode="json", exclude_defaults=True, exclude={"weights"}),
            "classes": self.classes,
            "input_shape": list(self.input_shape),
            "surgery": [cut.plain() for cut in self.surgery],
        }

    @classmethod
    def load(cls, folder: Path, *, allow_code: bool = False) -> Subject:
        """Rebuilds a saved subject."""
        record = read_json(folder / "subject.json")
        if record.get("schema") != 1:
            raise FileProblem(f"{folder} was written by another version of EdgeCR (schema {record.get('schema')}).")
        declared = architecture(record["architecture"])
        cuts = tuple(ChannelCut.parse(cut) for cut in record["surgery"])
        channels, height, width = record["input_shape"]
        subject = cls(declared, record["classes"], (channels, height, width), nn.Identity(), cuts)
        module = subject.skeleton(allow_code=allow_code)
        module.load_state_dict(read_tensors(folder / "tensors.safetensors"))
        return subject.with_module(module.eval())



