"""YAML as text with places: every value knows the file and line it came from, so every mistake can name them.

A file may be hostile: its size, its depth and the number of its values, aliases expanded, are bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from edgecr.core.errors import FileProblem, Problem, RecipeError, suggestion
from edgecr.core.options import Options

OptionsType = TypeVar("OptionsType", bound=Options)
KeyPath = tuple[str | int, ...]

MOST_BYTES = 64 * 1024
"""Size of one file; the longest shipped one has a kilobyte."""
MOST_VALUES = 8000
"""Values of one file; an alias counts as often as it is used."""
DEEPEST = 32
"""Levels of nesting."""
MOST_MISTAKES = 50
"""Mistakes that are listed; a file with more of them is no declaration at all."""
_LONGEST_NUMBER = 64
_LONGEST_SHOWN = 80
_YAML = "tag:yaml.org,2002:"
_NUMBERS = (_YAML + "int", _YAML + "float")
_PLAIN = {_YAML + name for name in ("str", "int", "float", "bool", "null", "map", "seq")}


@dataclass
class Document:
    """Plain values of a YAML file, and for each key path the place where it was written."""

    values: Any
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Returns the place of the value at a key path, or of its nearest written parent."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return ""


class _Loader(yaml.SafeLoader):
    """Composes the node tree of a text, and stops at the bounds."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._values += 1
        self._depth += 1
        require_bounds(self._values, self._depth)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def require_bounds(values: int, depth: int) -> None:
    """Raises YAMLError for more values or more levels than a declaration has."""
    if depth > DEEPEST:
        raise yaml.YAMLError(f"it is nested deeper than {DEEPEST} levels")
    if values > MOST_VALUES:
        raise yaml.YAMLError(f"it has more than {MOST_VALUES} values (an alias counts as often as it is used)")


class _Reader:
    """Turns a node tree into plain values, noting places and collecting problems."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[KeyPath, str] = {}
        self.problems: list[Problem] = []
        self.loader = yaml.SafeLoader("")
        self._values = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._values += 1
        require_bounds(self._values, len(path))
        self.places[path] = f"{self.file}:{node.start_mark.line + 1}"
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, i)) for i, child in enumerate(node.value)]
        return self.scalar(node, path)

    def scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        if node.tag not in _PLAIN:
            kind = node.tag.rpartition(":")[2]
            self.problem(path, f"a {kind} is not allowed here; quote it if text is meant")
            return None
        if node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
            self.problem(path, "a number this long is not allowed here; quote it if text is meant")
            return None
        try:
            return self.loader.construct_object(node)
        except (ValueError, OverflowError, yaml.YAMLError) as error:
            self.problem(path, f"cannot be read: {error}")
            return None

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            text = isinstance(key_node, yaml.ScalarNode) and key_node.tag == _YAML + "str"
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            inner = (*path, key)
            self.places[inner] = f"{self.file}:{key_node.start_mark.line + 1}"
            if not text:
                self.problem(inner, "a key must be text; quote it")
            elif key in result:
                self.problem(inner, "this key stands here twice")
            result[key] = self.value(value_node, inner)
        return result

    def problem(self, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(self.places.get(path, self.file), dotted(path), message))


def dotted(path: KeyPath) -> str:
    """``("steps", 0, "prune")`` -> ``steps.0.prune``."""
    return ".".join(str(part) for part in path)


def read_yaml(file: Path) -> Document:
    """Reads one YAML file into plain values with places."""
    return parse_yaml(decoded(read_bytes(file), file), str(file))


def read_bytes(file: Path) -> bytes:
    """The content of a declaration; FileProblem for what is no ordinary file, or too large to be one."""
    try:
        if file.exists() and not file.is_file():  # a pipe or a device would never end
            raise FileProblem(f"{file} is not a file.")
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise FileProblem(f"{file} does not exist.") from error
    except (OSError, ValueError) as error:
        raise FileProblem(f"{file} cannot be read: {error}.") from error
    if len(content) > MOST_BYTES:
        raise FileProblem(f"{file} is larger than a declaration may be ({MOST_BYTES // 1024} KiB).")
    return content


def decoded(content: bytes, file: Path) -> str:
    """The text of a declaration."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileProblem(f"{file} cannot be read as text: {error}.") from error


def parse_yaml(text: str, file: str) -> Document:
    """The same for text that is already in memory."""
    try:
        node = _composed(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError([Problem(f"{file}:{line}", "", f"not valid YAML: {error.problem}")]) from error
    except yaml.YAMLError as error:
        raise RecipeError([Problem(file, "", f"not valid YAML: {error}")]) from error
    if node is None:
        return Document({}, {(): f"{file}:1"})
    reader = _Reader(file)
    try:
        values = reader.value(node, ())
    except (yaml.YAMLError, TypeError) as error:
        raise RecipeError([Problem(file, "", f"not valid YAML: {error}")]) from error
    if reader.problems:
        raise RecipeError([*reader.problems[:MOST_MISTAKES], *_rest(len(reader.problems))])
    return Document(values, reader.places)


def _composed(text: str) -> yaml.Node | None:
    if len(text) > MOST_BYTES:
        raise yaml.YAMLError(f"it is longer than {MOST_BYTES} characters")
    return yaml.compose(text, Loader=_Loader)


def _rest(count: int) -> list[Problem]:
    """A line for the mistakes that are not listed."""
    more = count - MOST_MISTAKES
    return [Problem("", "", f"and {more} more")] if more > 0 else []


def check(kind: type[OptionsType], document: Document) -> OptionsType:
    """Checks a document against its schema; all mistakes are raised at once, each with its place."""
    try:
        return kind.parse(document.values)
    except ValidationError as error:
        raise RecipeError(problems_of(error, kind, document)) from error


def problems_of(error: ValidationError, kind: type[Options], document: Document) -> list[Problem]:
    """Each mistake that pydantic found, with the place it was written at and a near name for unknown keys."""
    found: list[Problem] = []
    mistakes = error.errors(include_url=False)
    # Made anew for each document, since a user's module may have registered more in the meantime.
    schema = cache(kind.model_json_schema)
    for item in mistakes[:MOST_MISTAKES]:
        path = real_path(item["loc"], document.values)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            key = str(path[-1])
            known = known_keys(schema(), path[:-1])
            message = (
                "this key does not go with the others here"
                if key in known
                else f"unknown key. {suggestion(key, known_keys(schema(), path[:-1], document.values))}"
            )
        elif item["type"] == "missing":
            message = "this key is required"
        elif not isinstance(item["input"], dict | list):
            message = f"{message} (got {_short(item['input'])}{_as_number(item['input'])})"
        found.append(Problem(document.place(path), dotted(path), message))
    return [*found, *_rest(len(mistakes))]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def _as_number(value: Any) -> str:
    """Advice for text such as ``1e-3``, which YAML 1.1 takes for a number only with a point and a signed exponent."""
    if not isinstance(value, str) or not re.fullmatch(r"[-+]?\d[\d.]*[eE][-+]?\d{1,2}", value):
        return ""
    try:
        return f"; write {Decimal(value):f}"
    except InvalidOperation:
        return ""


def real_path(loc: KeyPath, values: Any) -> KeyPath:
    """A pydantic location without the union tags that are no keys of the document."""
    path: list[str | int] = []
    here = values
    for number, part in enumerate(loc):
        found, inner = _entry(here, part)
        last_and_missing = number == len(loc) - 1 and isinstance(here, dict) and isinstance(part, str)
        if found or last_and_missing:
            path.append(part)
            here = inner
    return tuple(path)


def _entry(values: Any, part: str | int) -> tuple[bool, Any]:
    """Returns True and the entry of that key or index in plain values, or False and None if there is none."""
    if isinstance(values, dict) and part in values:
        return True, values[part]
    if isinstance(values, list) and isinstance(part, int) and part < len(values):
        return True, values[part]
    return False, None


def known_keys(schema: dict[str, Any], path: KeyPath, values: Any = None) -> list[str]:
    """The keys that may stand at a path of a document of that schema; empty where that cannot be told.

    Of alternatives, only those that the document's ``values`` choose: with ``kind: iterative``, its keys.
    """
    definitions = schema.get("$defs", {})
    places = _branches(schema, definitions)
    for part in path:
        _, values = _entry(values, part)
        places = _chosen([branch for place in places for branch in _inside(place, part, definitions)], values)
    return sorted({key for place in places for key in place.get("properties", {})})


def _chosen(branches: list[dict[str, Any]], values: Any) -> list[dict[str, Any]]:
    """The alternatives whose constant keys are as in the document; all of them where none is."""

    def fits(branch: dict[str, Any]) -> bool:
        fixed = {key: inner["const"] for key, inner in branch.get("properties", {}).items() if "const" in inner}
        return all(values.get(key, fixed[key]) == fixed[key] for key in fixed)

    return ([branch for branch in branches if fits(branch)] or branches) if isinstance(values, dict) else branches


def _branches(schema: Any, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """A schema with its references followed and its alternatives spread out."""
    if not isinstance(schema, dict):
        return []
    if "$ref" in schema:
        return _branches(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    alternatives = schema.get("anyOf", schema.get("oneOf"))
    if alternatives is None:
        return [schema]
    return [branch for alternative in alternatives for branch in _branches(alternative, definitions)]


def _inside(schema: dict[str, Any], part: str | int, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    if isinstance(part, int):
        return _branches(schema.get("items"), definitions)
    return _branches(schema.get("properties", {}).get(part, schema.get("additionalProperties")), definitions)
