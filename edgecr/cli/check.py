"""``edgecr check RUN``: the verdict as an exit code, for continuous integration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import echo
from edgecr.cli.judge import check_if_judgement
from edgecr.cli.options import RunArgument, Runs

if TYPE_CHECKING:
    from edgecr.report.result import Result


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
    check_if_judgement(run, junit)
    from edgecr.api.runs import check as judge_again

    result = judge_again(run, runs=runs, junit=junit)
    for file, problem in result.unverified.items():
        echo(f"NOT VERIFIED {file} {problem}")
    for line in _lines(result):
        echo(line)
    echo(result.verdict.value)
    raise typer.Exit(result.exit_code)


def _lines(result: Result) -> Iterator[str]:
    """A line for each gate; of several targets below the verdict of each on each device, then what ships where."""
    from edgecr.report.candidates import name_of
    from edgecr.report.gates.judge import reasons

    parts = [(f"{row.verdict.value:<11} ", row) for row in result.candidates] if result.many else []
    if not parts:
        yield from (f"{gate.status.value:<11} {gate.name}: {gate.text}" for gate in result.gates)
        return
    for verdict, row in parts:
        yield verdict + name_of(row.target, row.device) + "".join(f"; {remark}" for remark in row.remarks)
        gates = result.only(row.target, row.device).gates
        yield from (f"  {gate.status.value:<11} {gate.name}: {gate.text}" for gate in gates)
    yield from reasons(result)
