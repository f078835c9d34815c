"""The parties that answer for exported files: predictors of this machine, or sessions with a board."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecr.core.errors import DeviceFailed, RequestError
from edgecr.core.progress import Monitor
from edgecr.exporters import Artifact, runtimes_of
from edgecr.exporters.parity import failures
from edgecr.exporters.stored_question import StoredQuestion
from edgecr.predictors import Predictor, predictor_for
from edgecr.runners.agent.answers import BoardPredictor
from edgecr.runners.agent.runner import AgentRunner
from edgecr.runners.base import answers_itself, runner_for
from edgecr.runners.device import Device
from edgecr.stages.board_record import write_board
from edgecr.stages.engine_proof import ENGINE, FORMAT


@dataclass(frozen=True)
class Answerers:
    """A predictor for each role, and who stands behind them."""

    predictors: Mapping[str, Predictor]
    answered_by: Mapping[str, Any] = field(default_factory=dict)
    """The board, its runtime and the version of that; empty for this machine."""
    parity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The differences of the board's outputs from PyTorch's for the images that each file carries, by role."""

    def save(self, folder: Path) -> None:
        """Writes who answered beside the answers of a board."""
        if self.answered_by:
            write_board(folder, self.answered_by, self.parity)


@contextlib.contextmanager
def answerers(artifacts: Mapping[str, Artifact], device: Device | None, monitor: Monitor) -> Iterator[Answerers]:
    """The predictors of this machine, by default or with a device's settings, or of a board while its sessions last."""
    if device is None or runner_for(device).on_this_machine:
        yield Answerers({role: _here(artifact, device) for role, artifact in artifacts.items()})
        return
    with contextlib.ExitStack() as sessions:
        asked = {role: _there(artifact, device) for role, artifact in artifacts.items()}
        monitor.say(f"Asking {device.name} about images")
        for board in asked.values():
            sessions.enter_context(board)
        parity = dict(_proven(artifacts, asked, device, monitor))
        yield Answerers(asked, _identity(device, artifacts, asked), parity)


def _here(artifact: Artifact, device: Device | None) -> Predictor:
    if device is None:
        return predictor_for(artifact)
    runtime = device.runtime_name(*runtimes_of(artifact.format))
    return predictor_for(artifact, runtime=runtime, settings=device.runtime_options(runtime))


def _there(artifact: Artifact, device: Device) -> BoardPredictor:
    runtimes = runtimes_of(artifact.format)
    runner = runner_for(device.unit(device.units[0]) if device.units else device)
    runtime = device.runtime_name(*runtimes)
    if not answers_itself(device, runtimes) or not isinstance(runner, AgentRunner):
        raise RequestError(
            f"The runtime {runtime!r} can be timed on {device.name!r}, but not asked about images there. "
            "Leave --device out: this machine answers then."
        )
    return BoardPredictor(runner, artifact, runtime)


def _identity(device: Device, artifacts: Mapping[str, Artifact], asked: Mapping[str, BoardPredictor]) -> dict[str, Any]:
    """Everything besides the files that a board's answers depend on, as far as it tells."""
    runtimes = {
        role: [device.runtime_name(*runtimes_of(artifact.format)), str(asked[role].info.get("version", ""))]
        for role, artifact in artifacts.items()
    }
    return {"device": device.plain(), "runtimes": runtimes}


def _proven(
    artifacts: Mapping[str, Artifact], asked: Mapping[str, Predictor], device: Device, monitor: Monitor
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parity of each file on the board; DeviceFailed where its answers are not what PyTorch gave."""
    for role, artifact in artifacts.items():
        question = StoredQuestion.of(artifact)
        if question is None:
            monitor.warn(
                f"{artifact.path} carries no images with PyTorch's outputs, so nothing shows that {device.name} "
                "computes it rightly; export the model again."
            )
            continue
        result = question.put_to(asked[role])
        if broken := failures(result, ENGINE if artifact.format == FORMAT else question.allowed):
            raise DeviceFailed(
                f"On {device.name} the {role} ({artifact.path.name}) does not answer as PyTorch did: "
                f"{'; '.join(broken)}. What it says of images is not judged. Try another version of its runtime there, "
                "or another target."
            )
        yield role, result.plain()
