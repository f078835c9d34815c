"""The only way to a terminal: whatever is printed here can neither steer it nor be taken for markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from edgecr.core.printable import printable

if TYPE_CHECKING:
    from rich.console import Console


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Prints text, which may hold words of files, boards and libraries."""
    typer.echo(printable(text), err=err, nl=nl)


def console(*, stderr: bool = False) -> Console:
    """A console for tables and bars."""
    from edgecr.core.display import SafeConsole

    return SafeConsole(stderr=stderr)
