"""``edgecr unpack FILE``: the plain ONNX file that a compact one was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import echo


@app.command()
def unpack(
    file: Annotated[Path, typer.Argument(help="A compact ONNX file.")],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Write it there; plain-FILE beside it when left out."),
    ] = None,
) -> None:
    """Write the plain ONNX file that a compact one was made from, byte by byte."""
    from edgecr.api.unpacking import unpack as unpacked

    place = unpacked(file, output)
    echo(f"{place}  {place.stat().st_size:,} bytes, unpacked from {file.stat().st_size:,}")
