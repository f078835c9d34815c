"""A file on a board as a predictor: images go there, outputs come back, over one session that is kept open."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from edgecr.core.errors import ConnectionLost, DeviceFailed
from edgecr.predictors import preprocessing_of
from edgecr.predictors.batches import check_images
from edgecr.predictors.file_predictor import ImageFilePredictor
from edgecr.runners.agent.asking import Asking
from edgecr.runners.agent.memory import Need
from edgecr.runners.agent.payload import Payload, payload_of
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.agent.runner import AgentRunner
from edgecr.runners.agent.session import asked_arm
from edgecr.runners.runtimes.tensorrt import TensorRtOptions
from edgecr.runners.tensorrt.asked import most_at_once, with_engine
from edgecr.tasks import Outputs

PAUSES_S = (1.0, 4.0, 15.0)
"""Seconds before each attempt to connect again; the count begins anew whenever an answer comes."""
MOST_IMAGES = 64
"""Images in a batch: several of them make up what is asked at once, so that the next is on its way meanwhile."""
MOST_BYTES = 8 << 20
"""Bytes of a batch, and of its answers."""
MOST_CALL = 256 << 20
"""Bytes that an inference may hold on the board; the same on each, so that the same batches are asked everywhere."""
_WIDEST = 8  # bytes of a number in an output whose type is not told


class Shipped(Protocol):
    """The part of an artifact's manifest that a board needs."""

    @property
    def path(self) -> Path:
        """The exported file."""

    @property
    def format(self) -> str:
        """``onnx``, …"""

    @property
    def beside(self) -> tuple[str, ...]:
        """The names of the files that must lie beside it."""

    @property
    def input(self) -> dict[str, Any]:
        """name, dtype and shape, with None for the batch."""

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The same of each output."""

    @property
    def preprocessing(self) -> dict[str, Any]:
        """mean, std, size, embedded."""


class BoardPredictor(ImageFilePredictor):
    """A file in a runtime of a board; a context manager, within which its session stays open.

    A connection that drops is made again, and goes on with the batch that had no answer yet.
    """

    def __init__(
        self, runner: AgentRunner, artifact: Shipped, runtime: str, pauses_s: Sequence[float] = PAUSES_S
    ) -> None:
        self._runner, self._runtime, self._pauses_s = runner, runtime, pauses_s
        self._outputs = artifact.outputs
        self._asking: Asking | None = None
        self._info: dict[str, Any] = {}
        payload = payload_of(artifact.path, (1,), artifact.beside)
        need, fixed = payload.needs[1], _fixed(artifact.input)
        self._options = runner.device.runtime(runtime)
        built_for = most_at_once(artifact.path) if self._options.by_tool else None
        portion = fixed or min(_portion(artifact, need), built_for or MOST_IMAGES)
        embedded = bool(artifact.preprocessing.get("embedded"))
        super().__init__(artifact.path, preprocessing_of(artifact), embedded, fixed, portion)
        self._payload, self._arm = payload, self._asked(payload, Need(need.weights, need.call * portion))

    def __enter__(self) -> BoardPredictor:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def info(self) -> Mapping[str, Any]:
        """The runtime that answers, as it told when the file was loaded: name, version and settings."""
        return self._info

    def predict(self, images: np.ndarray) -> Outputs:
        """The file's outputs for uint8 NHWC images, answered on the board; any batch size."""
        check_images(images, self._preprocessing.size)
        parts = [images[start : start + self._portion] for start in range(0, len(images), self._portion)]
        found: dict[int, Outputs] = {}
        losses = 0
        while len(found) < len(parts):
            before = len(found)
            try:
                self._answer_rest(parts, found)
            except ConnectionLost as error:
                losses = 1 if len(found) > before else losses + 1
                self._wait(losses, error)
        answers = [found[number] for number in range(len(parts))]
        return {name: np.concatenate([each[name] for each in answers]) for name in (answers[0] if answers else ())}

    def _answer_rest(self, parts: Sequence[np.ndarray], found: dict[int, Outputs]) -> None:
        """Asks for the parts that are not answered yet; whatever breaks off ends the session."""
        asking = self._asking or self._open()
        left = [number for number in range(len(parts)) if number not in found]
        try:
            for number, inputs, outputs in asking.answers(left, lambda number: self._inputs(parts[number])):
                self._check(outputs, inputs)
                found[number] = self._rows(outputs, inputs, len(parts[number]))
        except BaseException:
            self._close()
            raise

    def _check(self, outputs: Outputs, inputs: int) -> None:
        """Raises for outputs that are not those of the file: other names, or other shapes than it declares."""
        for told in self._outputs:
            shape = told.get("shape")
            given = outputs.get(told["name"])
            if given is None:
                raise DeviceFailed(f"The board gave no output {told['name']!r}, which {self._path} has.")
            if shape is not None and not _fits(given.shape, [inputs, *shape[1:]]):
                raise DeviceFailed(
                    f"The board's output {told['name']!r} has the shape {list(given.shape)} for {inputs} images; "
                    f"{self._path} declares {shape}."
                )

    def _open(self) -> Asking:
        """Connects, sends the file and has it loaded; the runtime must be the one that answered before."""
        asking = Asking(self._runner.connect(f"answering with {self._path.name}", shared=True))
        try:
            asking.load(self._payload, self._arm, self._ready)
            if self._info and asking.info != self._info:
                raise DeviceFailed(
                    f"The runtime on {self._runner.device.name} is not the one that answered before the connection "
                    f"was lost: {asking.info} instead of {self._info}. Start again."
                )
        except BaseException:
            asking.close()
            raise
        self._asking, self._info = asking, asking.info
        self._fixed = self._fixed or asking.whole_batches
        return asking

    def _ready(self, agent: Connection, arm: dict[str, Any]) -> dict[str, Any]:
        """The file itself, or the engine that the board builds of it."""
        if not isinstance(self._options, TensorRtOptions):
            return arm
        return with_engine(agent, self._options, self._path, self._payload, arm)

    def _close(self) -> None:
        if self._asking is not None:
            self._asking.close()
            self._asking = None

    def _wait(self, losses: int, error: ConnectionLost) -> None:
        """Pauses before the next attempt; raises when there were enough."""
        if losses > len(self._pauses_s):
            raise DeviceFailed(f"{error} {len(self._pauses_s)} attempts to go on failed.") from error
        time.sleep(self._pauses_s[losses - 1])

    def _asked(self, payload: Payload, need: Need) -> dict[str, Any]:
        return asked_arm(self._runner.device, self._path.name, self._runtime, self._portion, payload, need)


def _fixed(described: Mapping[str, Any]) -> int | None:
    """The number of images that a file takes; None for one that takes any."""
    (first, *_) = described.get("shape") or [None]
    return first if isinstance(first, int) else None


def _portion(artifact: Shipped, need: Need) -> int:
    """The most images that a batch may have, by the bytes of its inputs, its outputs and its inference."""
    height, width = preprocessing_of(artifact).size
    image = height * width * 3 * (1 if artifact.preprocessing.get("embedded") else 4)
    row = sum(_WIDEST * _numbers(each) for each in artifact.outputs)
    return max(1, min(MOST_IMAGES, MOST_BYTES // max(image, row, 1), MOST_CALL // max(need.call, 1)))


def _numbers(described: Mapping[str, Any]) -> int:
    """The numbers of an output for one image, as far as its declaration tells."""
    return math.prod(size or 1 for size in (described.get("shape") or [None])[1:])


def _fits(given: Sequence[int], declared: Sequence[int | None]) -> bool:
    return len(given) == len(declared) and all(one in (None, size) for one, size in zip(declared, given))
