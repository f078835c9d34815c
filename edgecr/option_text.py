"""Options in words: what every key of a YAML means, for the terminal and for the reference page."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edgecr.options import Options


def option_lines(kind: type[Options]) -> list[str]:
    """One line for each option: its name, type, default and meaning."""
    return [
        f"  {name:<16} {type_text(field.annotation):<34} {default_text(field):<12} {field.description or ''}".rstrip()
        for name, field in kind.model_fields.items()
    ]


def option_table(kind: type[Options]) -> str:
    """The same as a Markdown table."""
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in kind.model_fields.items():
        meaning = (field.description or "").replace("|", "\\|").replace("\n", " ").replace("``", "`")
        kind_text = type_text(field.annotation).replace("|", "\\|")
        rows.append(f"| `{name}` | {kind_text} | {default_text(field)} | {meaning} |")
    return "\n".join(rows)


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
        return type_text(arguments[0])
    if origin is typing.Literal:
        return ", ".join(str(value) for value in arguments)
    if origin is tuple:
        return "list of " + type_text(arguments[0])
    if origin is dict or (origin is not None and origin.__name__ == "Mapping"):
        return "mapping"
    if origin is not None and arguments:
        return " or ".join(dict.fromkeys(type_text(argument) for argument in arguments if argument is not Any))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.__name__
    return "path" if getattr(annotation, "__name__", "") == "Path" else str(getattr(annotation, "__name__", annotation))


def default_text(field: Any) -> str:
    """A default as it would be written, or 'required'."""
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel):
        return str(field.default.model_dump(mode="json", exclude_defaults=True) or "{}")
    if isinstance(field.default, tuple):
        return "[" + ", ".join(str(value) for value in field.default) + "]"
    if field.default is None or isinstance(field.default, bool):
        return {None: "null", True: "true", False: "false"}[field.default]
    return str(field.default)
