"""Writes the reference pages from the code: what every key of every YAML means, and what every command takes.

``python -m edgecr.reference > docs/reference.md`` renews the page; a test fails when it is out of date.
"""

from __future__ import annotations

from typing import Any

from edgecr.option_text import option_table


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
    parts += ["### parity", option_table(Parity), "## Commands", *_command_sections()]
    return "\n\n".join(parts) + "\n"


def _summary(kind: type[Any]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def commands(app: Any) -> dict[str, Any]:
    """Every command of the command line by its words, such as ``recipes list``."""
    import typer

    group: Any = typer.main.get_command(app)
    found = {}
    for name, command in sorted(group.commands.items()):
        inner = getattr(command, "commands", None)
        for sub, leaf in sorted(inner.items()) if inner else [("", command)]:
            found[f"{name} {sub}".strip()] = leaf
    return found


def _command_sections() -> list[str]:
    from edgecr.cli import app

    sections = []
    for words, command in commands(app).items():
        parameters = [_parameter(parameter) for parameter in command.params if parameter.name != "help"]
        sections.append("\n\n".join(filter(None, (f"### `edgecr {words}`", command.help, "\n".join(parameters)))))
    return sections


def _parameter(parameter: Any) -> str:
    name = ", ".join(parameter.opts) if parameter.param_type_name == "option" else (parameter.name or "").upper()
    return f"- `{name}`: {getattr(parameter, 'help', '') or ''}".rstrip(": ")


if __name__ == "__main__":
    print(page(), end="")
