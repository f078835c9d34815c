"""``edgecr shrink MODEL --images DIR``: a trained model and photographs in, a faster file and its verdict out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from edgecr.cli.app import app
from edgecr.cli.options import AllowCode, Mean, ModelName, Quiet, Runs, Size, Std, Threads


@app.command()
def shrink(
    model: ModelName,
    images: Annotated[
        Path,
        typer.Option("--images", help="About 182 images or more, like those of its use; no class folders needed."),
    ],
    latency: Annotated[
        str,
        typer.Option(
            "--latency",
            help="What may remain: a fraction of the model's own, or a time: '3 ms'. Files are judged at 1.1 times it.",
        ),
    ] = "0.5",
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--weights", help="A checkpoint; the published weights of torchvision or timm when left out."),
    ] = None,
    device: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--device", help="Plan for it and measure there (repeatable: the first is planned for)."),
    ] = None,
    classes: Annotated[Optional[int], typer.Option("--classes", min=1, help="Number of the model's classes.")] = None,  # noqa: UP045
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    agreement: Annotated[
        float, typer.Option("--agreement", min=0, max=1, help="Share of images that must get the model's own answer.")
    ] = 0.9,
    runs: Runs = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away what this run has and start anew.")] = False,
    threads: Threads = 0,
    allow_code: AllowCode = False,
    quiet: Quiet = False,
) -> None:
    """Make a trained model faster without training or labels; ends in the verdict. Run it again to resume.

    Images are scaled as ImageNet's models have them, unless --mean and --std say otherwise.
    """
    from edgecr.api.shrinking import shrink as run_shrink
    from edgecr.cli.show import show_result
    from edgecr.core.display import TerminalMonitor

    found = run_shrink(
        model,
        images,
        latency=_number(latency),
        weights=weights,
        classes=classes,
        size=size,
        mean=mean,
        std=std,
        agreement=agreement,
        devices=device or ["cpu"],
        runs=runs,
        fresh=fresh,
        threads=threads,
        allow_code=allow_code,
        monitor=TerminalMonitor(quiet),
    )
    raise typer.Exit(show_result(found.run, found.report))


def _number(text: str) -> float | str:
    """A fraction, or a time as it was written."""
    try:
        return float(text)
    except ValueError:
        return text
