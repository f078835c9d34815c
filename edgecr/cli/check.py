"""``edgecr check RUN``: the verdict as an exit code, for continuous integration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import echo
from edgecr.cli.options import RunArgument, Runs


@app.command()
def check(
    run: RunArgument = None,
    runs: Runs = Path("runs"),
    junit: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--junit", help="Write the gates there as JUnit XML too; an INCOMPLETE gate is an error."),
    ] = None,
) -> None:
    """Judge a run anew from its evidence and print each gate; exit 0 for SHIP, 1 for DON'T SHIP or INCOMPLETE."""
    from edgecr.api.runs import check as judge_again

    result = judge_again(run, runs=runs, junit=junit)
    for file, problem in result.unverified.items():
        echo(f"NOT VERIFIED {file} {problem}")
    for gate in result.gates:
        echo(f"{gate.status.value:<11} {gate.name}: {gate.text}")
    echo(result.verdict.value)
    raise typer.Exit(result.exit_code)
