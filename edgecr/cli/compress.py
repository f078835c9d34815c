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
    import json

    from edgecr.core.errors import RequestError
    from edgecr.recipe import load_recipe, source_purpose

    if old_devices is not None:
        raise RequestError("The option --devices is called --train-devices now.")
    changes = list(overrides or [])
    if device:
        changes.append(f"measure.devices={json.dumps(device)}")
    checked = load_recipe(recipe, changes)  # before torch is imported

    from edgecr.cli.display import TerminalMonitor
    from edgecr.cli.options import execution
    from edgecr.cli.show import show_result
    from edgecr.pipeline import compress as run_pipeline

    where = execution(threads, allow_code, accelerator, train_devices)
    run, result = run_pipeline(checked, source_purpose(recipe), runs, where, TerminalMonitor(quiet), fresh=fresh)
    raise typer.Exit(show_result(run, result))
