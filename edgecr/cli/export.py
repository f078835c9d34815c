"""``edgecr export RUN --target T``: more targets for a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import echo
from edgecr.cli.options import AllowCode, Quiet, RunArgument, Runs, Threads

if TYPE_CHECKING:
    from edgecr.exporters import Artifact


@app.command()
def export(
    run: RunArgument = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help="Export target, by name or path (repeatable).", show_default="onnx"),
    ] = None,
    runs: Runs = Path("runs"),
    threads: Threads = 0,
    allow_code: AllowCode = False,
    quiet: Quiet = False,
) -> None:
    """Export a run's baseline and candidate for a target; each file is proven before it is kept."""
    from edgecr.api.exporting import export_run
    from edgecr.api.runs import chosen_run
    from edgecr.core.display import TerminalMonitor

    monitor, where = TerminalMonitor(quiet), chosen_run(run, runs)
    for artifact in export_run(where, target or ["onnx"], threads, allow_code, monitor):
        echo(f"{artifact.path}  {artifact.size_bytes:,} bytes, target {artifact.target}, {_parity(artifact)}")


def _parity(artifact: Artifact) -> str:
    """The difference from PyTorch, by the figures that are judged at this precision."""
    found = artifact.parity
    if artifact.precision == "fp32":
        return f"largest difference from PyTorch {found['max_abs']:.2g}"
    share = f"same answer as PyTorch on {found['agreement']:.1%} of {found['images']} images"
    return f"{artifact.precision}, {share}, cosine {found['cosine']:.4f}"
