"""``edgecr compress RECIPE``: the whole way from a recipe to a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from edgecr.cli.app import app
from edgecr.cli.options import AllowCode, Quiet, Runs, Threads


@app.command()
def compress(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    overrides: Annotated[
        Optional[list[str]], typer.Option("--set", help="Change one key: a.b=VALUE (repeatable).")  # noqa: UP045
    ] = None,
    runs: Runs = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away what this run has and start anew.")] = False,
    device: Annotated[
        Optional[list[str]], typer.Option("--device", help="Measure there instead of the recipe's devices.")  # noqa: UP045
    ] = None,
    threads: Threads = 0,
    accelerator: Annotated[str, typer.Option(help="cpu, cuda or auto: where training runs.")] = "cpu",
    train_devices: Annotated[int, typer.Option(min=1, help="How many accelerators train together.")] = 1,
    old_devices: Annotated[Optional[str], typer.Option("--devices", hidden=True)] = None,  # noqa: UP045
    allow_code: AllowCode = False,
    quiet: Quiet = False,
) -> None:
    """Compress, export, measure and judge; ends in the verdict. Run it again to resume."""
    from edgecr.api.runs import compress as run_recipe
    from edgecr.cli.show import show_result
    from edgecr.core.display import TerminalMonitor
    from edgecr.core.errors import RequestError

    if old_devices is not None:
        raise RequestError("The option --devices is called --train-devices now.")
    found = run_recipe(
        recipe,
        overrides=overrides or (),
        devices=device or (),
        runs=runs,
        fresh=fresh,
        threads=threads,
        accelerator=accelerator,
        train_devices=train_devices,
        allow_code=allow_code,
        monitor=TerminalMonitor(quiet),
    )
    raise typer.Exit(show_result(*found))
