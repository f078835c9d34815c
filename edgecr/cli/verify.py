"""``edgecr verify ARTIFACT…``: exported files are still the ones that were proven, and still answer as they did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import echo
from edgecr.cli.options import Threads


@app.command()
def verify(
    artifacts: Annotated[list[Path], typer.Argument(help="Exported files, or the folders that they lie in.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    threads: Threads = 0,
) -> None:
    """Check exported files against their manifests, and run their stored proof again; PyTorch is not needed.

    Exit 0: they are what they say. 1: one is not. 2: one cannot be checked.
    """
    from edgecr.api.verifying import verify as verified

    found = [verified(path, threads=threads) for path in artifacts]
    if as_json:
        echo(json.dumps([each.plain() for each in found], indent=2))
    for each in () if as_json else found:
        echo(str(each.path))
        for check in each.checks:
            echo(f"  {check.status.value:<11} {check.name:<9} {check.text}")
    codes = {each.exit_code for each in found}
    raise typer.Exit(1 if 1 in codes else max(codes))
