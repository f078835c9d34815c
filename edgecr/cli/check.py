"""``edgecr check RUN``: the verdict as an exit code, for continuous integration."""

from __future__ import annotations

from pathlib import Path

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import echo
from edgecr.cli.options import JUnit, RunArgument, Runs, judged_anew, with_junit


@app.command()
def check(
    run: RunArgument = None,
    runs: Runs = Path("runs"),
    junit: JUnit = None,
) -> None:
    """Judge a run anew from its evidence and print each gate; exit 0 for SHIP, 1 for DON'T SHIP or INCOMPLETE.

    The folder of `edgecr judge` is judged in the same way; it exits 0 when one of its candidates may ship.
    """
    with with_junit(junit, str(run or runs)) as written:
        results = judged_anew(run, runs)
        written(results)
    for result in results:
        if len(results) > 1:
            echo(f"{result.name}:")
        for file, problem in result.unverified.items():
            echo(f"NOT VERIFIED {file} {problem}")
        for gate in result.gates:
            echo(f"{gate.status.value:<11} {gate.name}: {gate.text}")
        echo(result.verdict.value)
    raise typer.Exit(min(result.exit_code for result in results))
