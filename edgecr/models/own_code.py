"""The source files behind a model of the user's own: its module, and the modules beside it that it comes to import.

Imports are read from the source, not carried out: those in functions, and ``import_module`` with a plain name, count
too. Installed packages do not count, and neither do files that are read in another way.
"""

from __future__ import annotations

import ast
import site
import sysconfig
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from edgecr.core.files import sha256

_SUFFIXES = (".py", *EXTENSION_SUFFIXES)
_ALL = "*"
_IMPORTERS = ("import_module", "__import__")
Name = tuple[str, ...]
"""The parts of a module's dotted name."""


def source_hashes(module: str, file: Path) -> dict[str, str]:
    """The hash of each local file that a module hangs on, by its path below the folder that the name starts in.

    ``file`` is where Python found the module.
    """
    name = tuple(module.split("."))
    root = file.parents[len(name) - (file.name != "__init__.py")]
    own = name[0] if _is_installed(root) else None  # beside an installed package lie all the others
    found: dict[Path, Name] = {}
    waiting = [name]
    while waiting:
        wanted = waiting.pop()
        for part, source in _sources(root, wanted):
            if source not in found and own in (None, part[0]):
                found[source] = part
                waiting += _imports(source, part)
    files = {source.relative_to(root).as_posix(): source for source in sorted(found)} or {file.name: file}
    return {name: sha256(source) for name, source in files.items()}


def _is_installed(root: Path) -> bool:
    paths = sysconfig.get_paths()
    places = [paths[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    places += [*site.getsitepackages(), site.getusersitepackages()]
    return root.resolve() in {Path(place).resolve() for place in places}


def _sources(root: Path, name: Name) -> Iterator[tuple[Name, Path]]:
    """The files that importing a dotted name runs: each package on the way, and the module itself."""
    if name[-1] == _ALL:
        package = name[:-1]
        yield from _sources(root, package)
        yield from (((*package, file.stem), file) for file in root.joinpath(*package).glob("[!_]*.py"))
        return
    for length in range(1, len(name) + 1):
        part, place = name[:length], root.joinpath(*name[:length])
        files = [place / "__init__.py", *(place.with_name(place.name + suffix) for suffix in _SUFFIXES)]
        source = next((file for file in files if file.is_file()), None)
        if source is not None:
            yield part, source
        elif not place.is_dir():
            return  # what follows is a name inside of the module


def _imports(source: Path, name: Name) -> Iterator[Name]:
    """Every module that a file may import, and names that may turn out to be modules."""
    if source.suffix != ".py":
        return
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return  # nothing can be imported through it
    package = name if source.name == "__init__.py" else name[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _from_imports(node, package)
        elif isinstance(node, ast.Call):
            yield from _called_imports(node)


def _from_imports(node: ast.ImportFrom, package: Name) -> Iterator[Name]:
    base = package[: max(0, len(package) - node.level + 1)] if node.level else ()
    origin = (*base, *(node.module.split(".") if node.module else ()))
    yield from ((*origin, alias.name) for alias in node.names)


def _called_imports(node: ast.Call) -> Iterator[Name]:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    first = node.args[0] if node.args else None
    name = first.value if isinstance(first, ast.Constant) else None
    if called in _IMPORTERS and isinstance(name, str) and not name.startswith("."):
        yield tuple(name.split("."))
