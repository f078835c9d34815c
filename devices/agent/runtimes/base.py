"""The contract of a runtime, and the helpers that its implementations share."""

import sys
from typing import Any, Callable, Dict, List, Tuple

DTYPES = {
    "float": "float32",
    "float16": "float16",
    "double": "float64",
    "uint8": "uint8",
    "int8": "int8",
    "int32": "int32",
    "int64": "int64",
    "f32": "float32",
    "f16": "float16",
    "u8": "uint8",
    "i8": "int8",
    "i32": "int32",
    "i64": "int64",
}
OLD_PIP = '"pip==21.3.1"'  # what comes with Python before 3.8 is too old for wheels of arm64


class RuntimeProblem(Exception):
    """The runtime cannot do what was asked; the message says what to do."""


class Runtime(object):
    """One loaded model; a subclass for each runtime, which can be timed, and answers images where it has ``answer``.

    A further runtime is one file: ``RUNTIME`` names its class, the options on the host say whether it answers.
    """

    info: Dict[str, Any]
    """Its name as ``runtime``, its ``version``, and the settings it runs with."""
    whole_batches = True
    """True where every batch must have the size that the model was loaded for; the host fills the last one up."""

    @staticmethod
    def import_library() -> None:
        """Imports the runtime, with its telemetry switched off before."""
        raise NotImplementedError

    @staticmethod
    def on_processor(config: Dict[str, Any]) -> bool:
        """True when all of its memory is the processor's own; accelerators reserve far more than they use."""
        raise NotImplementedError

    def __init__(self, path: str, config: Dict[str, Any], batch: int) -> None:
        raise NotImplementedError

    @classmethod
    def for_answers(cls, path: str, config: Dict[str, Any], batch: int) -> "Runtime":
        """The model as it answers batches of that many images, or of fewer too unless ``whole_batches``."""
        return cls(path, config, batch)

    def new_call(self) -> Callable[[], Any]:
        """One inference on its own input; several calls may run at once."""
        raise NotImplementedError

    def layers(self, calls: int) -> List[Dict[str, Any]]:
        """Name, operator and microseconds in each call of every layer, of a model that was loaded to be profiled."""
        raise RuntimeProblem("This runtime does not tell the time of its layers; ask without --layers.")

    def answer(self, images: Any) -> Dict[str, Any]:
        """Every output by its name, one row an image, for the model's one input as an array of its own type."""
        raise RuntimeProblem("This runtime can be timed on the board, but not asked there.")


def import_or_explain(library: str, install: str) -> None:
    """Imports a runtime and numpy, or says how to install them on this board."""
    try:
        __import__("numpy")
        __import__(library)
    except Exception as error:  # a broken wheel may raise anything
        pip = "%s -m pip install " % sys.executable
        first = "%s%s && " % (pip, OLD_PIP) if sys.version_info < (3, 8) else ""
        raise RuntimeProblem(
            "%s cannot be imported on the board (%s). Install it there: %s%s%s" % (library, error, first, pip, install)
        )


def batched(name: str, shape: List[Any], batch: int) -> List[int]:
    """The shape for a batch; other open dimensions become 1."""
    if shape and isinstance(shape[0], int) and shape[0] != batch:
        raise RuntimeProblem(
            "Input %r has the fixed batch %d, but %d was asked for. Export with a dynamic batch."
            % (name, shape[0], batch)
        )
    return [batch if place == 0 else size if isinstance(size, int) else 1 for place, size in enumerate(shape)]


def sample(inputs: List[Tuple[str, List[int], str]]) -> Dict[str, Any]:
    """Random input of the right form, the same each time."""
    import numpy

    random = numpy.random.RandomState(0)
    return {name: filled(numpy.empty(shape, dtype), random) for name, shape, dtype in inputs}


def filled(values: Any, random: Any) -> Any:
    """Fills an array with random numbers row by row: drawn at once they would take five times its memory."""
    scale = 1 if values.dtype.kind == "f" else 100
    for row in values if values.ndim > 1 else [values]:
        row[...] = random.rand(*row.shape) * scale
    return values
