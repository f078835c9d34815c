"""Answers to the host's images: one model stays loaded while batches of inputs come as files."""

import base64
import json
import os
import shutil
from typing import Any, BinaryIO, Dict

from . import clock, inbox, memory, runtimes
from .channel import Channel
from .children import Children
from .runtimes.base import Runtime, RuntimeProblem

FOLDER = "batches"
"""The part of the work folder that inputs are uploaded to."""
MOST_BYTES = 24 << 20
"""Bytes of the answers to one batch: they travel as one line, a third longer than they are."""


def hand_over(request: Dict[str, Any], work: str, children: Children) -> None:
    """Gives the measuring process a batch that was uploaded; one that did not arrive has been told of already."""
    file = inbox.place(work, "%s/%s" % (FOLDER, request["name"]))
    if os.path.isfile(file):
        batch = {"number": request["number"], "shape": request["shape"], "dtype": request["dtype"], "file": file}
        children.tell(json.dumps(batch).encode("utf-8") + b"\n")


def tidy(work: str) -> None:
    """Removes the batches that nobody read, once their process has ended."""
    shutil.rmtree(os.path.join(work, FOLDER), ignore_errors=True)


def opened(arm: Dict[str, Any]) -> Runtime:
    """The runtime with the model as it answers; an import that fails and memory are dealt with as in measuring."""
    kind = runtimes.find(arm["runtime"])
    kind.import_library()
    if kind.on_processor(arm["config"]):
        memory.cap()
    return kind.for_answers(arm["model"], arm["config"], arm["batch"])


def serve(runtime: Runtime, channel: Channel, batches: BinaryIO) -> None:
    """Answers batches, each one line that names its file, until the host has no more."""
    channel.emit("loaded", info=runtime.info, whole_batches=runtime.whole_batches)
    for line in iter(batches.readline, b""):
        batch = json.loads(line.decode("utf-8"))
        images, begin = taken(batch), clock.now()
        try:
            outputs = runtime.answer(images)
        except Exception as error:  # each runtime has its own classes of errors
            words = " ".join(str(error).split()) or type(error).__name__
            raise CannotAnswer("%s cannot answer a batch of %s: %s" % (runtime.info["runtime"], form(batch), words))
        channel.emit("answers", number=batch["number"], ns=clock.now() - begin, outputs=packed(outputs))


class CannotAnswer(Exception):
    """A batch that the runtime refused."""


def form(batch: Dict[str, Any]) -> str:
    """The shape and type of a batch, for a message."""
    return "%s %s" % ("x".join(map(str, batch["shape"])), batch["dtype"])


def taken(batch: Dict[str, Any]) -> Any:
    """The inputs in a file, which is removed: the disk never holds more than what waits."""
    import numpy

    values = numpy.fromfile(batch["file"], numpy.dtype(batch["dtype"]).newbyteorder("<"))
    os.remove(batch["file"])
    return values.reshape(batch["shape"])


def packed(outputs: Dict[str, Any]) -> Dict[str, Any]:
    """Named arrays as text: floats of any width as float32, whole numbers as they are, little-endian."""
    arrays = {name: plain(values) for name, values in outputs.items()}
    size = sum(values.nbytes for values in arrays.values())
    if size > MOST_BYTES:
        raise RuntimeProblem(
            "The answers to one batch are %d MB, and at most %d can be sent at once. Use a smaller batch."
            % (size >> 20, MOST_BYTES >> 20)
        )
    return {
        name: {
            "dtype": values.dtype.name,
            "shape": list(values.shape),
            "data": base64.b64encode(values.tobytes()).decode("ascii"),
        }
        for name, values in arrays.items()
    }


def plain(values: Any) -> Any:
    """An array in the form in which it travels."""
    import numpy

    array = numpy.asarray(values)
    if array.dtype.kind == "f":
        array = array.astype("<f4", copy=False)
    return array.astype(array.dtype.newbyteorder("<"), copy=False)
