"""The command line: one file a command; each parses, calls one function and prints."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from edgecr import __version__
from edgecr.errors import EdgecrError

app = typer.Typer(
    name="edgecr",
    help="Compress a vision model, export it, and prove on the device that it is still right and really faster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgecr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Holds the options that stand before the command."""


from edgecr.cli import (
    catalogue as catalogue,
    check as check,
    compare as compare,
    compress as compress,
    doctor as doctor,
    export as export,
    latency_table as latency_table,
    models as models,
    profile as profile,
    report as report,
    robustness as robustness,
)


class _Stopped(BaseException):
    """Ctrl-C, as an exception of our own: Typer would turn KeyboardInterrupt into a silent exit."""


def _stop(*_: object) -> None:
    raise _Stopped


def main() -> None:
    """Runs the command line; turns every failure into one clear message and the right exit code."""
    debug = "--debug" in sys.argv[1:]
    signal.signal(signal.SIGINT, _stop)
    try:
        app(standalone_mode=True)
    except EdgecrError as error:
        if debug:
            raise
        typer.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except _Stopped:
        typer.echo("\nStopped. Nothing is lost: the same command continues where it was.", err=True)
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        typer.echo(
            f"Error: {type(error).__name__}: {error}\nThis is a fault in EdgeCR or its environment; "
            "run it again as `edgecr --debug …` and report the traceback.",
            err=True,
        )
        sys.exit(1)
