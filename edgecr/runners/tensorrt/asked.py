"""Engines that answer for images on a board: built there, or taken from what it keeps, before the first one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecr.core.errors import DeviceFailed
from edgecr.runners.agent.payload import Payload
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.runtimes.tensorrt import TensorRtOptions
from edgecr.runners.tensorrt import commands
from edgecr.runners.tensorrt.board import BoardTrtexec
from edgecr.runners.tensorrt.build_file import BuildFile
from edgecr.runners.tensorrt.commands import Places
from edgecr.runners.tensorrt.model_input import ModelInput

COUNT = "{count}"
"""The number of images of a batch, which the agent writes into a flag."""


def most_at_once(path: Path) -> int | None:
    """The most images that the engine of a file is built for; None where the file fixes their number."""
    return BuildFile.beside(path).largest


def with_engine(
    agent: Connection, options: TensorRtOptions, path: Path, payload: Payload, arm: Mapping[str, Any]
) -> dict[str, Any]:
    """The request for answers, with the engine of the file that was sent in place of the file."""
    facts = agent.ask("probe", packages=[]).get("facts")
    if not isinstance(facts, dict):
        raise DeviceFailed("The agent told no facts of its board.")
    trtexec, places = BoardTrtexec(agent, options, lambda seconds, text: None), Places(payload.name)
    board, file, one = trtexec.probe(facts), BuildFile.beside(path), ModelInput.of(path)
    how = commands.build_flags(board.version, options, file, places)
    built, dims = trtexec.build(board, how, places, payload.sha256), file.dims(1)
    shapes = commands.shapes_of(one.name, dims) if dims else None
    if built.cached and not trtexec.loads(board, places, shapes, path.name):
        trtexec.build(board, how, places, payload.sha256, anew=True)
    flags = commands.answer_flags(board.version, options, places, _shapes(file, one), one.name)
    asked = {
        "tool": options.tool,
        "argv": flags,
        "input": places.of("input.bin"),
        "output": places.of("output.json"),
        "version": str(board.version),
    }
    return {**arm, "model": places.of("model.engine"), "config": {**arm["config"], "trtexec": asked}}


def _shapes(file: BuildFile, one: ModelInput) -> str | None:
    """The input's shape with a number of images that is not known yet."""
    if file.largest is None:
        return None
    _, _, rest = commands.shapes_of(one.name, file.dims(file.largest) or ()).rpartition(":")[2].partition("x")
    return f"{one.name}:{COUNT}x{rest}"
