"""Helpers for tests of damaged and forged evidence: asking for a verdict, and rewriting files with their records."""

import json
import os

from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import EdgecrError
from edgecr.core.files import sha256, write_json
from edgecr.exporters.artifact import MANIFEST, sealed

OTHER = {"baseline": "candidate", "candidate": "baseline"}


def said(run, command):
    """The exit code and the output of a command; anything but an explained error is a failure of the test."""
    done = CliRunner().invoke(app, [command, str(run)])
    error = done.exception
    if isinstance(error, EdgecrError):
        return error.exit_code, str(error)
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return done.exit_code, " ".join(done.output.split())


def refused(run, *commands):
    for command in commands or ("check", "report"):
        code, output = said(run, command)
        assert code != 0, (command, output)
        assert "SHIP" not in output.replace("DON'T SHIP", ""), (command, output)
    return output


def rewrite(path, change):
    value = json.loads(path.read_text())
    change(value)
    if path.name == MANIFEST:  # whoever forges a manifest forges its digest too
        write_json(path, sealed(value))
    else:
        path.write_text(json.dumps(value))


def vouch(run, stage, *files):
    """Makes a stage's record agree with what its files are now."""
    rewrite(
        run / "stages" / f"{stage}.json",
        lambda record: record["outputs"].update({file: sha256(run / file) for file in files}),
    )


def regate(run, **gates):
    """The run as if it had been asked for other gates."""
    rewrite(run / "run.json", lambda record: [record[name].update(gates=gates) for name in ("recipe", "canonical")])
    vouch(run, "run", "run.json")


# Damages of one file


def emptied(path):
    path.write_bytes(b"")


def garbage(path):
    path.write_bytes(b"\x00\xff garbage" * 9)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-7])


def one_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def deleted(path):
    path.unlink()


def folder(path):
    path.unlink()
    path.mkdir()


def dangling(path):
    path.unlink()
    path.symlink_to("nowhere")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def other_role(path):
    """The file of the other role; for files without a role, another one of the run."""
    for role, other in OTHER.items():
        if role in path.parts:
            parts = [other if part == role else part for part in path.parts]
            return path.write_bytes(type(path)(*parts).read_bytes())
    root = next(parent for parent in path.parents if (parent / "recipe.yaml").exists())
    return path.write_bytes((root / "baseline" / "subject.json").read_bytes())
