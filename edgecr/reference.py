"""Writes the reference pages from the code: what every key of every YAML means, and what every command takes.

``python -m edgecr.reference > docs/reference.md`` renews the page; a test fails when it is out of date.
"""

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
        meaning = (field.description or "").replace("|", "\\|").replace("\n", " ")
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
        return " or ".join(dict.fromkeys(type_text(argument) for argument in arguments))
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
    return {None: "null", True: "true", False: "false"}.get(field.default, str(field.default))


def page() -> str:
    """The whole reference page."""
    from edgecr import builtin
    from edgecr.data import sources
    from edgecr.exporters.base import Parity, Target
    from edgecr.methods import methods
    from edgecr.models import families
    from edgecr.recipe import Measure, Recipe, Robustness, purpose
    from edgecr.report.gates import Gate
    from edgecr.robustness.suites import suites
    from edgecr.runners.base import Device

    parts = ["# Reference", "Written from the code by `python -m edgecr.reference`; do not edit.", "## Recipe"]
    parts.append(option_table(Recipe))
    for title, kind in (("measure", Measure), ("robustness", Robustness), ("gates: each gate", Gate)):
        parts += [f"### {title}", option_table(kind)]
    parts.append("## Methods (`steps:`)")
    for name in methods:
        method = methods.get(name)
        parts += [f"### {name}", _summary(method), option_table(method)]
        parts += [f"Preset `{preset}`: `{dict(values)}`" for preset, values in sorted(method.presets.items())]
    parts.append("## Architectures (`model:`)")
    for family in dict.fromkeys(families.get(name) for name in families):
        known = ", ".join(f"`{name}`" for name in families if families.get(name) is family)
        parts += [f"### {family.__name__}", f"{_summary(family)} Names: {known}.", option_table(family)]
    parts.append("## Data (`data:`)")
    for name in sources:
        parts += [f"### {name}", _summary(sources.get(name)), option_table(sources.get(name))]
    parts.append("## Suites")
    for name in suites:
        suite = suites.get(name)
        parts += [f"### {name}", suite.purpose, "\n".join(f"- `{line}`" for line in suite.lines())]
    for title, kind_name, schema in (("Export targets", "export", Target), ("Devices", "devices", Device)):
        parts += [
            f"## {title}",
            "\n".join(f"- `{name}`: {purpose(builtin.find(kind_name, name))}" for name in builtin.names(kind_name)),
            option_table(schema),
        ]
    parts += ["### parity", option_table(Parity), "## Commands", *_commands()]
    return "\n\n".join(parts) + "\n"


def _summary(kind: type[Any]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _commands() -> list[str]:
    import typer

    from edgecr.cli import app

    group: Any = typer.main.get_command(app)
    lines = []
    for name, command in sorted(group.commands.items()):
        inner = getattr(command, "commands", None)
        for sub, leaf in sorted(inner.items()) if inner else [("", command)]:
            title = f"edgecr {name} {sub}".strip()
            parameters = [_parameter(parameter) for parameter in leaf.params if parameter.name != "help"]
            lines.append(f"### `{title}`\n\n{leaf.help or ''}\n\n" + "\n".join(parameters))
    return lines


def _parameter(parameter: Any) -> str:
    name = ", ".join(parameter.opts) if parameter.param_type_name == "option" else (parameter.name or "").upper()
    return f"- `{name}`: {getattr(parameter, 'help', '') or ''}".rstrip(": ")


if __name__ == "__main__":
    print(page(), end="")
