"""The one finder of declarations: ``recipes/``, ``export/`` and ``devices/`` in a clone and in a wheel."""

from __future__ import annotations

from pathlib import Path

from edgecr.errors import FileProblem, UnknownName

_HERE = Path(__file__).resolve().parent

KINDS = ("recipes", "export", "devices")


def folder(kind: str) -> Path:
    """Where the declarations of a kind lie: inside an installed wheel, else beside the package in a clone."""
    packaged = _HERE / "_builtin" / kind
    return packaged if packaged.is_dir() else _HERE.parent / kind


def names(kind: str) -> list[str]:
    """The names of all shipped declarations of a kind, sorted, with '/' for sub-folders."""
    root = folder(kind)
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))


def find(kind: str, name: str, beside: Path | None = None) -> Path:
    """The YAML file meant by a name or a path; a user's file wins over a shipped one of the same name."""
    given = Path(name)
    if given.suffix in (".yaml", ".yml"):
        for place in [beside / given] if beside else []:
            if place.is_file():
                return place
        if given.is_file():
            return given
        shipped = folder(kind) / (given.relative_to(kind) if given.parts[0] == kind else given)
        if shipped.is_file():
            return shipped
        raise FileProblem(f"{given} does not exist (looked here and among the shipped {kind}).")
    for local in (Path(kind) / f"{name}.yaml", folder(kind) / f"{name}.yaml"):
        if local.is_file():
            return local
    raise UnknownName(kind.rstrip("s") if kind != "export" else "export target", name, names(kind))
