"""``edgecr judge BASELINE CANDIDATE…``: the verdict on exported files of any tool, without a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import echo
from edgecr.cli.options import Mean, Quiet, Std, Threads

JUnit = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--junit", help="Write the gates there as JUnit XML too; an INCOMPLETE gate is an error."),
]


@app.command()
def judge(
    baseline: Annotated[Path, typer.Argument(help="The exported file that the others are compared with.")],
    candidates: Annotated[list[Path], typer.Argument(help="One or more exported files that may ship instead.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="Images, in class folders or without labels; beside train/, only test/ (or val/) is read."
        ),
    ],
    device: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--device", help="Measure there, by name or path (repeatable); this machine when left out."),
    ] = None,
    suite: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--suite", help="Corruptions to endure (repeatable); noise5 when left out."),
    ] = None,
    gate: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--gate", help="What must hold: clean_accuracy.drop=0.01 (repeatable); without any, nothing ships."
        ),
    ] = None,
    images: Annotated[Optional[int], typer.Option(min=1, help="Use only that many test images.")] = None,  # noqa: UP045
    mean: Mean = None,
    std: Std = None,
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--size", help="Side of the images, or HEIGHTxWIDTH, where the files leave it open."),
    ] = None,
    classes: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--classes", help="File with one class folder's name a line, in the order of the outputs."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder that holds the judgements.")] = Path(
        "judged"
    ),
    junit: JUnit = None,
    threads: Threads = 0,
    quiet: Quiet = False,
) -> None:
    """Judge exported ONNX files of any tool against a baseline; exits 0 when one of them may ship.

    How images become a file's input comes from a manifest beside it or from --mean, --std and --size. Run it again to
    resume; `edgecr check` and `edgecr report` judge the folder that it writes again.
    """
    from edgecr.api.judging import judge as judge_files
    from edgecr.cli.show import show_judgement
    from edgecr.core.display import TerminalMonitor

    found = judge_files(
        baseline,
        candidates,
        data=data,
        devices=device or ["cpu"],
        suites=suite or ["noise5"],
        gates=gate or [],
        images=images,
        mean=mean,
        std=std,
        size=size,
        classes=classes,
        output=output,
        junit=junit,
        threads=threads,
        monitor=TerminalMonitor(quiet),
    )
    raise typer.Exit(show_judgement(found.folder, found.reports))


def check_if_judgement(folder: Path | None, junit: Path | None) -> None:
    """Judges the folder of an earlier judgement anew, prints each gate and ends; returns for any other folder."""
    from edgecr.report.render.junit import junit_file
    from edgecr.stages.judge_case import Case

    case = Case.at(folder) if folder else None
    if case is None:
        return
    with junit_file(junit, str(folder)) as tell:
        results = case.results()
        tell(results)
    for result in results:
        if len(results) > 1:
            echo(f"{result.name}:")
        for file, problem in result.unverified.items():
            echo(f"NOT VERIFIED {file} {problem}")
        for gate in result.gates:
            echo(f"{gate.status.value:<11} {gate.name}: {gate.text}")
        echo(result.verdict.value)
    raise typer.Exit(min(result.exit_code for result in results))
