"""Writes the reference pages from the code: what every key of every YAML means, and what every command takes.

``python -m edgecr.reference > docs/reference.md`` renews the page; a test fails when it is out of date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from edgecr.core.option_text import nested, option_table
from edgecr.core.options import Options


def page() -> str:
    """The whole reference page."""
    from edgecr.data.base import DataSource
    from edgecr.models.base import Architecture
    from edgecr.recipe import Recipe, StepBase
    from edgecr.runners.base import Device
    from edgecr.runners.runtimes import RuntimeOptions

    parts = ["# Reference", "Written from the code by `python -m edgecr.reference`; do not edit."]
    parts += ["## Recipe", *_keys(Recipe, {}, apart=(Architecture, DataSource, StepBase))]
    parts += ["### Names of gates", _gates(), "## Methods (`steps:`)", *_methods()]
    parts += ["## Architectures (`model:`)", *_architectures(), "## Data (`data:`)", *_data(), "## Suites", *_suites()]
    parts += ["## Export targets", _declarations("export"), *_targets()]
    parts += ["## Devices", _declarations("devices"), *_keys(Device, {}, apart=(RuntimeOptions,)), *_runtimes()]
    parts += ["## Commands", "A group without a command lists: `edgecr devices` is `edgecr devices list`."]
    return "\n\n".join([*parts, *_command_sections()]) + "\n"


def _keys(kind: type[Options], shown: dict[type[Options], str], apart: tuple[type[Options], ...] = ()) -> Iterator[str]:
    """The keys of a kind, then those below them; groups that were ``shown`` before are pointed to."""
    yield option_table(kind)
    pointers = []
    for group in nested(kind, apart):
        if before := shown.get(group.options):
            pointers.append(f"- Below `{group.path}`: the keys of [{before}](#{_anchor(before)}).")
            continue
        shown[group.options] = group.title
        yield from (f"#### {group.title}", _summary(group.options), option_table(group.options))
    if pointers:
        yield "\n".join(pointers)


def _anchor(title: str) -> str:
    """The anchor that Markdown renderers give a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _gates() -> str:
    from edgecr.report.gates.words import gate_words

    rows = [f"| `{gate.name}` | {gate.meaning} | {gate.keys} | {gate.units} |" for gate in gate_words()]
    return "\n".join(["| gate | about | keys | limits and units |", "| --- | --- | --- | --- |", *rows])


def _methods() -> Iterator[str]:
    from edgecr.methods import methods
    from edgecr.models.base import Architecture

    shown: dict[type[Options], str] = {}
    for name in methods:
        method = methods.get(name)
        yield f"### {name}"
        yield _summary(method)
        yield from _keys(method, shown, apart=(Architecture,))
        yield from (f"`preset: {preset}`: `{dict(values)}`" for preset, values in sorted(method.presets.items()))


def _architectures() -> Iterator[str]:
    from edgecr.models import families

    for family in dict.fromkeys(families.get(name) for name in families):
        known = ", ".join(f"`{name}`" for name in families if families.get(name) is family)
        yield from (f"### {family.__name__}", f"{_summary(family)} Names: {known}.", option_table(family))


def _data() -> Iterator[str]:
    from edgecr.data import sources

    for name in sources:
        yield from (f"### {name}", _summary(sources.get(name)), option_table(sources.get(name)))


def _targets() -> Iterator[str]:
    from edgecr.exporters import exporters

    shown: dict[type[Options], str] = {}
    for name in exporters:
        kind = exporters.get(name).target
        runs = " or ".join(f"`{runtime}`" for runtime in kind.runtimes)
        yield from (f"### format: {name}", f"{_summary(kind)} Runs in {runs}.", *_keys(kind, shown))


def _runtimes() -> Iterator[str]:
    from edgecr.runners.runtimes import runtimes

    for name in runtimes:
        kind = runtimes.get(name)
        yield from (f"### runtimes.{name}", _summary(kind), option_table(kind))


def _suites() -> Iterator[str]:
    from edgecr.robustness.suites import suites

    for name in suites:
        suite = suites.get(name)
        yield from (f"### {name}", suite.purpose, "\n".join(f"- `{line}`" for line in suite.lines()))


def _declarations(kind: str) -> str:
    from edgecr.core import builtin
    from edgecr.recipe import purpose

    return "\n".join(f"- `{name}`: {purpose(builtin.find(kind, name))}" for name in builtin.names(kind))


def _summary(kind: type[Any]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0].replace("``", "`")


def commands(app: Any) -> dict[str, Any]:
    """Every command of the command line by its words, such as ``recipes list``."""
    import typer

    group: Any = typer.main.get_command(app)
    found = {}
    for name, command in sorted(group.commands.items()):
        inner = getattr(command, "commands", None)
        for sub, leaf in sorted(inner.items()) if inner else [("", command)]:
            if not leaf.hidden:
                found[f"{name} {sub}".strip()] = leaf
    return found


def _command_sections() -> list[str]:
    from edgecr.cli import app

    sections = []
    for words, command in commands(app).items():
        shown = [one for one in command.params if one.name != "help" and not getattr(one, "hidden", False)]
        parameters = [_parameter(parameter) for parameter in shown]
        sections.append("\n\n".join(filter(None, (f"### `edgecr {words}`", command.help, "\n".join(parameters)))))
    return sections


def _parameter(parameter: Any) -> str:
    name = ", ".join(parameter.opts) if parameter.param_type_name == "option" else (parameter.name or "").upper()
    return f"- `{name}`: {getattr(parameter, 'help', '') or ''}".rstrip(": ")


if __name__ == "__main__":
    print(page(), end="")
