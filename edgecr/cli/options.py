"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from edgecr.api.runs import chosen_run as chosen_run

if TYPE_CHECKING:
    from edgecr.report.result import Result
    from edgecr.run import Run
    from edgecr.subject import Subject

# typer reads these annotations at run time, on Python 3.10 too: hence Optional
Runs = Annotated[Path, typer.Option("--runs", help="The folder that holds the runs.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="Threads for this machine's own work; 0 = all cores.")]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Allow models given as package.module:function.")]
RunArgument = Annotated[Optional[Path], typer.Argument(help="A run folder; the latest run when left out.")]  # noqa: UP045
Target = Annotated[Optional[str], typer.Option("--target", help="Export target; the run's first when left out.")]  # noqa: UP045
ModelName = Annotated[str, typer.Argument(help="Architecture, for example resnet20 or torchvision:resnet50.")]
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", help="Option of the architecture: width=0.5 (repeatable)."),
]
Classes = Annotated[int, typer.Option("--classes", min=1, help="Number of classes.")]
Size = Annotated[Optional[int], typer.Option("--size", min=1, help="Input height and width.")]  # noqa: UP045
Mean = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--mean", help="Subtracted from red, green and blue, on a scale from 0 to 1: 0.5,0.5,0.5."),
]
Std = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--std", help="Standard deviations that divide them then: 0.5,0.5,0.5."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress bars: long steps print nothing until they end.")
]


def finished_result(run: Run) -> Result:
    """The result of a run, judged anew; a run that was never finished is a clear error."""
    from edgecr.core.errors import FileProblem
    from edgecr.stages.judge import judged

    if not (run.folder / "report.json").is_file():
        raise FileProblem(f"{run.folder} has no report yet. Finish it with its `edgecr compress` command.")
    return judged(run)


def named_subject(name: str, settings: list[str] | None, classes: int, size: int | None, allow_code: bool) -> Subject:
    """The model that a command line describes, for images of the size that was asked for or that its family is for."""
    from edgecr.core.yaml_text import parse_yaml
    from edgecr.models import architecture
    from edgecr.subject import Subject

    values = {"arch": name}
    for text in settings or []:
        key, _, value = text.partition("=")
        values[key] = parse_yaml(value, f"--set {text}").values
    declared = architecture(values)
    side = size or declared.usual_side
    return Subject.create(declared, declared.classes or classes, (side, side), seed=0, allow_code=allow_code)
