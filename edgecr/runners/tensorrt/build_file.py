"""The recipe of an engine, ``build.json`` beside an exported file, read as data that may come from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, PrivateAttr
from typing_extensions import Self

from edgecr.core.errors import DeviceFailed, FileProblem
from edgecr.core.files import read_json, refused_as, write_json
from edgecr.core.options import Options
from edgecr.runners.tensorrt.model_input import ModelInput

NAME = "build.json"
GENERATIONS = ("8.0", "10.0", "11.0")
ENDS = ("min", "opt", "max")
PLAIN_WORKSPACE = 64 << 20
Dims = tuple[Annotated[int, Field(ge=1, lt=2**31)], ...]


class _Readable(Options):
    """A part of the file; later editions may hold more."""

    model_config = ConfigDict(extra="ignore")


class BuildFlags(_Readable):
    """The build for one version of TensorRT."""

    trtexec: tuple[Annotated[str, Field(pattern=r"^--[A-Za-z0-9]+(=[^\x00-\x1f@]*)?$", max_length=400)], ...]
    workspace_bytes: Annotated[int, Field(ge=1 << 20, lt=1 << 50)]


class ShapeRange(_Readable):
    """The input's shapes that an engine is built for."""

    min: Dims
    opt: Dims
    max: Dims


class BuildFile(_Readable):
    """The builds that an exported file asks for, by version."""

    schema_: Annotated[int, Field(alias="schema", ge=1, le=1)]
    precision: str
    profile: ShapeRange | dict[str, Any]
    versions: Annotated[dict[Annotated[str, Field(pattern=r"^\d+\.\d+$")], BuildFlags], Field(min_length=1)]
    _path: Path = PrivateAttr(default=Path(NAME))

    @classmethod
    def beside(cls, model: Path) -> Self:
        """The recipe beside a model; FileProblem without one."""
        path = model.parent / NAME
        if not path.is_file():
            raise FileProblem(
                f"{model} has no {NAME} beside it, which says how its engine is built. Export the model for a TensorRT "
                "target (edgecr targets lists them), or measure it in another runtime with --runtime."
            )
        with refused_as(f"{path} is not a recipe of an engine that this version can read; export again"):
            found = cls.parse(read_json(path))
        found._path = path
        return found

    @property
    def path(self) -> Path:
        """The file that this is from."""
        return self._path

    @property
    def workspace_mb(self) -> int:
        """Memory for trying kernels, in MiB."""
        return next(iter(self.versions.values())).workspace_bytes >> 20

    def flags_for(self, number: tuple[int, int]) -> tuple[str, ...]:
        """The flags for the newest version of the same generation that is not newer, or else for the oldest."""
        known = sorted((_number(name), flags) for name, flags in self._same(number[0]).items())
        older = [flags for version, flags in known if version <= number]
        return (older[-1] if older else known[0][1]).trtexec

    def _same(self, major: int) -> dict[str, BuildFlags]:
        found = {name: flags for name, flags in self.versions.items() if _number(name)[0] == major}
        if not found:
            raise DeviceFailed(
                f"{self.path} is for TensorRT {' and '.join(self.versions)}, but the board has TensorRT {major}. "
                "Export the model for the JetPack of the board (edgecr targets lists them)."
            )
        return found

    @property
    def largest(self) -> int | None:
        """The most images at once; None where the file fixes their number."""
        return self.profile.max[0] if isinstance(self.profile, ShapeRange) else None

    def dims(self, batch: int) -> Dims | None:
        """The input's shape with so many images; None where the file fixes their number."""
        if not isinstance(self.profile, ShapeRange):
            return None
        low, high = self.profile.min[0], self.profile.max[0]
        if not low <= batch <= high:
            raise FileProblem(
                f"{self.path}: the engine is built for {low} to {high} images at once, not for {batch}. "
                "Ask for another batch, or export with another `batch:` of the target."
            )
        return (batch, *self.profile.max[1:])


def _number(name: str) -> tuple[int, int]:
    major, minor = map(int, name.split("."))
    return major, minor


def write_plain(model: Path) -> None:
    """Writes the recipe of a float32 engine for one image beside a small model, for any version."""
    one = ModelInput.of(model)
    dims = [size or 1 for size in one.dims]
    shapes = [f"--{end}Shapes={one.name}:{'x'.join(map(str, dims))}" for end in ENDS] if None in one.dims else []
    flags = {"trtexec": ["--noTF32", *shapes], "workspace_bytes": PLAIN_WORKSPACE}
    profile = dict.fromkeys(ENDS, dims) if shapes else {}
    versions = dict.fromkeys(GENERATIONS, flags)
    write_json(model.parent / NAME, {"schema": 1, "precision": "fp32", "profile": profile, "versions": versions})
