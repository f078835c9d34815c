"""Options in words: what every key of a YAML means, for the terminal and for the reference page."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edgecr.core.named import NameIn, OptionsIn
from edgecr.core.option_docs import meanings
from edgecr.core.options import Options


@dataclass(frozen=True)
class Nested:
    """Keys below a key: its path, such as ``schedule.retrain``, and the options that may stand there."""

    path: str
    options: type[Options]

    @property
    def title(self) -> str:
        """The path, and the key that chooses these options among others where there is one."""
        return ", ".join([self.path, *_choices(self.options)])


def _choices(kind: type[Options]) -> Iterator[str]:
    """The required keys of a group that can have one value only."""
    for name, field in kind.model_fields.items():
        values = typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
        if field.is_required() and len(values) == 1:
            yield f"{name}: {values[0]}"


def nested(kind: type[Options], apart: tuple[type[Options], ...] = ()) -> list[Nested]:
    """All groups of keys below those of a kind, depth first, each once; ``apart`` are described elsewhere."""
    return list(dict.fromkeys(_below(kind, "", apart)))


def _below(kind: type[Options], prefix: str, apart: tuple[type[Options], ...]) -> Iterator[Nested]:
    for name, field in kind.model_fields.items():
        for group, key, many in _groups(_annotation(field), f"{prefix}{name}"):
            if not issubclass(group, apart):
                yield Nested(key + (" (each)" if many else ""), group)
                yield from _below(group, f"{key}.", apart)


def _groups(annotation: Any, key: str, many: bool = False) -> Iterator[tuple[type[Options], str, bool]]:
    """The groups of keys that a type allows at a key, the key of each, and whether there are many of it."""
    if isinstance(annotation, type) and issubclass(annotation, Options):
        yield annotation, key, many
    origin = typing.get_origin(annotation)
    if members := _members(annotation):
        yield from ((group, f"{key}.{name}", many) for name, group in members.items())
    elif origin is not typing.Literal:
        for part in typing.get_args(annotation)[: 1 if origin is typing.Annotated else None]:
            yield from _groups(part, key, many or origin in (tuple, dict))


def _annotation(field: Any) -> Any:
    """A field's type, with the registry that its values are looked up in, which pydantic keeps apart from it."""
    named = [each for each in field.metadata if isinstance(each, NameIn | OptionsIn)]
    form: Any = Annotated
    parts = (field.annotation, *named)
    return form[parts] if named else field.annotation


def _members(annotation: Any) -> dict[str, type[Options]]:
    """The options that a registry chooses among, by name; nothing for other types."""
    chosen = [each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, OptionsIn)]
    return chosen[0].members() if chosen else {}


def option_lines(kind: type[Options]) -> list[str]:
    """One line for each option: its name, type, default and meaning."""
    return [
        f"  {name:<16} {type_text(_annotation(field)):<34} {default_text(field):<12} {_meaning(kind, name)}".rstrip()
        for name, field in kind.model_fields.items()
    ]


def option_table(kind: type[Options]) -> str:
    """The same as a Markdown table."""
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in kind.model_fields.items():
        meaning = _meaning(kind, name).replace("|", "\\|")
        kind_text = type_text(_annotation(field)).replace("|", "\\|")
        rows.append(f"| `{name}` | {kind_text} | {default_text(field)} | {meaning} |")
    return "\n".join(rows)


def _meaning(kind: type[Options], name: str) -> str:
    return meanings(kind).get(name, "").replace("\n", " ").replace("``", "`")


def type_text(annotation: Any) -> str:
    """A type as a reader of YAML would name it."""
    names = {
        int: "whole number",
        float: "number",
        str: "text",
        bool: "true or false",
        type(None): "null",
        dict: "mapping",
    }
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in names:
        return names[annotation]
    if origin is typing.Annotated:
        return _named_text(arguments[1:]) or type_text(arguments[0])
    if origin is typing.Literal:
        return ", ".join(str(value) for value in arguments)
    if origin is tuple:
        return "list of " + type_text(arguments[0])
    if origin is dict or (origin is not None and origin.__name__ == "Mapping"):
        return "mapping"
    if origin is not None and arguments:
        return " or ".join(dict.fromkeys(type_text(each) for each in arguments if _is_told(each)))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return "path" if getattr(annotation, "__name__", "") == "Path" else str(getattr(annotation, "__name__", annotation))


def _named_text(metadata: tuple[Any, ...]) -> str:
    """The names that a registry knows, for a type that is one of them; otherwise nothing."""
    for each in metadata:
        if isinstance(each, NameIn | OptionsIn):
            return ", ".join(each.registry.names()) + (" or mapping" if isinstance(each, OptionsIn) else "")
    return ""


def _is_told(annotation: Any) -> bool:
    """False for the alternative that only refuses what fits no other one."""
    return annotation is not Any and typing.get_args(annotation)[:1] != (Any,)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", exclude_defaults=True) if isinstance(value, BaseModel) else value


def default_text(field: Any) -> str:
    """A default as it would be written, or 'required'."""
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, dict):
        return str({key: _plain(value) for key, value in field.default.items()})
    if isinstance(field.default, BaseModel):
        return str(_plain(field.default))
    if isinstance(field.default, tuple):
        return "[" + ", ".join(str(value) for value in field.default) + "]"
    if field.default is None or isinstance(field.default, bool):
        return {None: "null", True: "true", False: "false"}[field.default]
    return str(field.default)
