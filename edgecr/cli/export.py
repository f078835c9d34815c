"""``edgecr export RUN --target T``: one more target for a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import echo
from edgecr.cli.options import AllowCode, Quiet, RunArgument, Runs, Threads


@app.command()
def export(
    run: RunArgument = None,
    target: Annotated[str, typer.Option("--target", help="Export target, by name or path.")] = "onnx",
    runs: Runs = Path("runs"),
    threads: Threads = 0,
    allow_code: AllowCode = False,
    quiet: Quiet = False,
) -> None:
    """Export a run's baseline and candidate for a target; each file is proven before it is kept."""
    from edgecr.api.exporting import export_run
    from edgecr.api.runs import chosen_run
    from edgecr.core.display import TerminalMonitor

    for artifact in export_run(chosen_run(run, runs), target, threads, allow_code, TerminalMonitor(quiet)):
        echo(
            f"{artifact.path}  {artifact.size_bytes:,} bytes, target {artifact.target}, "
            f"largest difference from PyTorch {artifact.parity['max_abs']:.2g}"
        )
