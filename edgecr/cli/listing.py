"""Groups of commands about one kind of thing: without a verb, each lists what there is."""

from __future__ import annotations

from collections.abc import Callable

import typer

from edgecr.cli.app import app


def group(name: str, text: str) -> typer.Typer:
    """A new group of commands, such as ``edgecr devices``."""
    made = typer.Typer(help=f"{text} Without a command: list.")
    app.add_typer(made, name=name)
    return made


def lists(where: typer.Typer) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Decorator of the function that lists a group: it is the command ``list``, and what the bare group does."""

    def add(listing: Callable[[], None]) -> Callable[[], None]:
        def bare(context: typer.Context) -> None:
            if context.invoked_subcommand is None:
                listing()

        where.callback(invoke_without_command=True)(bare)
        where.command("list")(listing)
        return listing

    return add
