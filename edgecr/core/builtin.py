"""The one finder of declarations: ``recipes/``, ``export/`` and ``devices/`` in a clone and in a wheel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from edgecr.core.errors import FileProblem, RequestError, UnknownName
from edgecr.core.names import is_name, not_a_name

_PACKAGE = Path(__file__).resolve().parents[1]

KINDS = ("recipes", "export", "devices")
_OWN = ("devices",)
"""Kinds that the user's own folder may hold."""
Owner = Literal["shipped", "own", "foreign"]


def folder(kind: str) -> Path:
    """Returns the folder of a kind's declarations: inside an installed wheel, else beside the package in a clone."""
    packaged = _PACKAGE / "_builtin" / kind
    return packaged if packaged.is_dir() else _PACKAGE.parent / kind


def config_folder() -> Path:
    """The user's own folder of EdgeCR, wherever the command runs; it need not exist."""
    return _user_folder("XDG_CONFIG_HOME", ".config")


def cache_folder(kind: str) -> Path:
    """The user's folder of figures that can be computed again at any time; it need not exist."""
    return _user_folder("XDG_CACHE_HOME", ".cache") / kind


def _user_folder(variable: str, usual: str) -> Path:
    given = Path(os.environ.get(variable, ""))
    base = given if given.is_absolute() else Path(os.path.expanduser("~")) / usual
    if not base.is_absolute():  # a relative one would be a folder of whoever wrote the current folder
        raise RequestError(f"The home folder is not known: set HOME or {variable} to an absolute path.")
    return base / "edgecr"


def names(kind: str) -> list[str]:
    """The names of all shipped declarations of a kind, sorted, with '/' for sub-folders."""
    return _names_in(folder(kind))


def own_names(kind: str) -> list[str]:
    """The names of the declarations in the user's own folder, sorted."""
    return _names_in(config_folder() / kind) if kind in _OWN else []


def local_names(kind: str) -> list[str]:
    """The names of the declarations in the current folder's ``KIND/``, sorted; none where that is the shipped one."""
    here = Path(kind)
    if not here.is_dir() or here.resolve() == folder(kind).resolve():
        return []
    return sorted(path.stem for path in here.glob("*.yaml") if is_name(path.stem) and is_file(path))


def _names_in(root: Path) -> list[str]:
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))


def shipped(kind: str, name: str) -> Path | None:
    """The shipped file of a name, if there is one."""
    path = folder(kind) / f"{name}.yaml"
    return path if is_file(path) else None


def owner(kind: str, path: Path) -> Owner:
    """Returns the owner of a declaration: EdgeCR, the user, or whoever made the folder it lies in."""
    real = path.resolve()
    if real.is_relative_to(folder(kind).resolve()):
        return "shipped"
    own = config_folder() / kind
    named_there = ".." not in path.parts and path.absolute().parent == own  # perhaps a link to the user's dotfiles
    return "own" if kind in _OWN and (named_there or real.parent == own.resolve()) else "foreign"


def find(kind: str, name: str, beside: Path | None = None) -> Path:
    """The YAML file meant by a name or a path.

    A name is looked for in the current folder, then among the user's own, then among the shipped ones.
    """
    given = Path(name)
    if given.suffix in (".yaml", ".yml"):
        inner = given.relative_to(kind) if given.parts[0] == kind else given
        for place in (*([beside / given] if beside else []), given, folder(kind) / inner):
            if is_file(place):
                return place
        raise FileProblem(f"{given} does not exist (looked here and among the shipped {kind}).")
    what = kind.rstrip("s") if kind != "export" else "export target"
    if not all(is_name(part) for part in name.split("/")):
        raise not_a_name(what, name)
    own = [config_folder() / kind] if kind in _OWN else []
    for place in (Path(kind), *own, folder(kind)):
        if is_file(place / f"{name}.yaml"):
            return place / f"{name}.yaml"
    raise UnknownName(what, name, {*names(kind), *own_names(kind), *local_names(kind)})


def is_file(path: Path) -> bool:
    """True for an ordinary file; a path that the system cannot take is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
