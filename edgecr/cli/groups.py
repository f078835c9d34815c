"""``edgecr models groups``: which channels of a model go together, which stay, and why."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from edgecr.cli.catalogue import methods_app
from edgecr.cli.echo import console, echo
from edgecr.cli.models import models_app
from edgecr.cli.options import AllowCode, Classes, ModelName, Settings, Size, named_subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgecr.surgery.tracing.explain import ExplainedGroup

Cell: TypeAlias = "str | int | tuple[str, ...]"
_SHOWN = 3
"""Names in a cell; ``--json`` has all."""
_WIDTH = 160
"""Columns of the table where there is no terminal to ask."""


@methods_app.command("groups", hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def refuse_old_name() -> None:
    """The old name of the command; refused with the new one."""
    from edgecr.core.errors import RequestError

    raise RequestError("`edgecr methods groups` is called `edgecr models groups` now.")


@models_app.command("groups")
def show_groups(
    name: ModelName,
    options: Settings = None,
    classes: Classes = 10,
    size: Size = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every layer and reason.")] = False,
    allow_code: AllowCode = False,
) -> None:
    """List the channels of a model that can only be removed together, those that stay, and the reasons."""
    from edgecr.surgery.tracing.explain import explain

    subject = named_subject(name, options, classes, size, allow_code)
    rows, shape = explain(subject.module, subject.input_shape), subject.input_shape
    if as_json:
        found = {"arch": name, "input": shape, "groups": [asdict(row) for row in rows]}
        echo(json.dumps(found, indent=2))
        return
    going, staying = [row for row in rows if row.removable], [row for row in rows if not row.removable]
    channels = sum(row.channels for row in going)
    echo(f"{name} at {shape[1]}x{shape[2]}: {channels:,} channels in {len(going)} groups can be removed.")
    _print(
        ("group", "channels", "made by", "read by", "tied by"),
        [(row.name, row.channels, row.layers, row.readers, row.why) for row in going],
    )
    if staying:
        echo("These channels stay:")
        _print(("stopped by", "channels", "made by"), _by_reason(staying))


def _by_reason(rows: Sequence[ExplainedGroup]) -> list[tuple[Cell, ...]]:
    """One line for each reason, with all its layers."""
    alike: dict[tuple[str, ...], list[ExplainedGroup]] = {}
    for row in rows:
        alike.setdefault(row.why, []).append(row)
    return [(why, sum(row.channels for row in some), tuple(row.name for row in some)) for why, some in alike.items()]


def _print(header: Sequence[str], rows: Sequence[tuple[Cell, ...]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(*header, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    screen = console()
    if not screen.is_terminal:
        screen.width = _WIDTH
    screen.print(table)


def _cell(value: Cell) -> str:
    if not isinstance(value, tuple):
        return f"{value:,}" if isinstance(value, int) else value
    more = f"\nand {len(value) - _SHOWN} more" if len(value) > _SHOWN else ""
    return "\n".join(value[:_SHOWN]) + more
