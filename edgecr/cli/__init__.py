"""The command line: one file a command; each parses, calls one function and prints."""

from __future__ import annotations

import signal
import sys
import traceback

from edgecr.cli import (
    catalogue,
    check,
    compare,
    compress,
    device_checks,
    devices,
    doctor,
    export,
    groups,
    judge,
    latency_table,
    models,
    profile,
    report,
    robustness,
    shrink,
    unpack,
    verify,
)
from edgecr.cli.app import app
from edgecr.cli.echo import echo
from edgecr.core.errors import EdgecrError

__all__ = [
    "app",
    "catalogue",
    "check",
    "compare",
    "compress",
    "device_checks",
    "devices",
    "doctor",
    "export",
    "groups",
    "judge",
    "latency_table",
    "main",
    "models",
    "profile",
    "report",
    "robustness",
    "shrink",
    "unpack",
    "verify",
]


class _Stopped(BaseException):
    """Ctrl-C, or an end that somebody else asks for, as an exception of our own: Typer would exit in silence."""


def _stop(*_: object) -> None:
    raise _Stopped


def main() -> None:
    """Runs the command line; turns every failure into one clear message and the right exit code."""
    debug = "--debug" in sys.argv[1:]
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # boards are given back when a job is cancelled, or a terminal closed
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:  # as with nohup
            signal.signal(getattr(signal, name), _stop)
    try:
        app(standalone_mode=True)
    except EdgecrError as error:
        if debug:
            echo("".join(traceback.format_exception(error)), err=True)
        echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except _Stopped:
        echo(
            "\nStopped. What a run had finished is kept, and the same command goes on there; "
            "a measurement that was under way begins anew.",
            err=True,
        )
        sys.exit(130)
    except Exception as error:
        if debug:
            echo("".join(traceback.format_exception(error)), err=True)
        echo(
            f"Error: {type(error).__name__}: {error}\nThis is a fault in EdgeCR or its environment; "
            "run it again as `edgecr --debug …` and report the traceback.",
            err=True,
        )
        sys.exit(1)
