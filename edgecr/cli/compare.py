"""``edgecr compare RUN RUN…``: finished runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import console


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders; the first is the reference.")],
    no_latency: Annotated[
        bool, typer.Option("--no-latency", help="Leave latencies out, where they may not be compared.")
    ] = False,
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="Write it there too: .html or .md.")] = None,  # noqa: UP045
) -> None:
    """Print finished runs side by side: figures, verdicts, and the widths of every layer."""

    from dataclasses import replace

    from edgecr.cli.options import finished_result
    from edgecr.core.errors import RequestError
    from edgecr.report.comparable import check_comparable
    from edgecr.report.render.terminal import render_comparison
    from edgecr.report.write import write_comparison
    from edgecr.run import Run

    if len(runs) < 2:
        raise RequestError("Comparing needs at least two run folders.")
    results = [finished_result(Run.find(folder)) for folder in runs]
    if no_latency:
        results = [replace(each, latency=[]) for each in results]
    check_comparable(results)
    console().print(render_comparison(results))
    if output:
        write_comparison(results, output)
