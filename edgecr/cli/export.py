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
    from edgecr.cli.display import TerminalMonitor
    from edgecr.cli.options import chosen_run, execution
    from edgecr.data.views import ProofData
    from edgecr.exporters import load_target
    from edgecr.run import ROLES
    from edgecr.stages.export import export_role, refuse_namesake
    from edgecr.stages.reload import load_again

    declared = load_target(target)
    chosen = chosen_run(run, runs)
    refuse_namesake(chosen, declared)
    where, monitor = execution(threads, allow_code), TerminalMonitor(quiet)
    data = ProofData.of(load_again(chosen, monitor))
    with chosen.writing():
        for role in ROLES:
            artifact = export_role(chosen, role, target, data, where, monitor)
            echo(
                f"{artifact.path}  {artifact.size_bytes:,} bytes, target {declared.name}, "
                f"largest difference from PyTorch {artifact.parity['max_abs']:.2g}"
            )
