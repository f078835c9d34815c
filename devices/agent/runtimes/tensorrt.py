"""TensorRT: answers of an engine that trtexec built on this very board, by its Python API, or by trtexec without it.

The calls are those that every version from 8.5 on has (they go by the names of tensors); they have not run on hardware.
"""

import json
import re
import subprocess
import sys
from typing import Any, Callable, Dict, List, Tuple

from ..trtexec import path_of
from .base import DTYPES, Runtime, RuntimeProblem, sample

OLDEST = (8, 5)
NEEDS = {
    "Logger": ("WARNING",),
    "Runtime": ("deserialize_cuda_engine",),
    "ICudaEngine": (
        "create_execution_context",
        "get_tensor_dtype",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_shape",
        "num_io_tensors",
    ),
    "IExecutionContext": ("execute_v2", "get_tensor_shape", "set_input_shape"),
    "TensorIOMode": ("INPUT",),
    "DataType": ("FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8"),
}
"""All of TensorRT's classes and attributes that are used here."""
NAMES = {
    "FLOAT": DTYPES["float"],
    "HALF": DTYPES["float16"],
    "INT8": DTYPES["int8"],
    "INT32": DTYPES["int32"],
    "INT64": DTYPES["int64"],
    "UINT8": DTYPES["uint8"],
    "BOOL": "bool",
}
"""numpy's names of TensorRT's number formats."""
COUNT = "{count}"  # in a flag: the number of images
TO_DEVICE, TO_HOST = 1, 2  # directions of a copy, in CUDA's own numbers


class TensorRt(Runtime):
    """One engine with its buffers on the processor, for a fixed number of images at once."""

    @staticmethod
    def import_library() -> None:
        """Nothing yet: where the Python API is missing, trtexec answers."""

    @staticmethod
    def on_processor(config: Dict[str, Any]) -> bool:
        """False: CUDA reserves addresses for all memory of the board."""
        return False

    def __init__(self, path: str, config: Dict[str, Any], batch: int) -> None:
        import numpy

        trt = api()
        self.cuda = device_memory()
        runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        with open(path, "rb") as file:
            engine = runtime.deserialize_cuda_engine(file.read())
        if engine is None:
            raise RuntimeProblem(
                "TensorRT %s cannot load %s: it was built by another version, or for another processor. "
                "Build it on this board." % (trt.__version__, path)
            )
        self.runtime, self.engine, self.context = runtime, engine, engine.create_execution_context()
        names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
        self.inputs: List[Tuple[str, List[int], str]] = []
        for name in names:
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                shape = [batch if size == -1 else size for size in engine.get_tensor_shape(name)]
                self.context.set_input_shape(name, shape)
                self.inputs.append((name, shape, NAMES[engine.get_tensor_dtype(name).name]))
        self.arrays = {
            name: numpy.empty(tuple(self.context.get_tensor_shape(name)), NAMES[engine.get_tensor_dtype(name).name])
            for name in names
        }
        self.places = {name: self.cuda.allocate(array.nbytes) for name, array in self.arrays.items()}
        self.info = {"runtime": "tensorrt", "version": trt.__version__, "copies": self.cuda.name}

    @classmethod
    def for_answers(cls, path: str, config: Dict[str, Any], batch: int) -> Runtime:
        """The engine by the Python API where that can be used, else by trtexec."""
        try:
            api()
            device_memory()
        except RuntimeProblem:
            return ByTrtexec(path, config, batch)
        return cls(path, config, batch)

    def answer(self, images: Any) -> Dict[str, Any]:
        """The outputs for a whole batch."""
        found = self.infer({self.inputs[0][0]: images})
        return {name: values.copy() for name, values in found.items()}

    def infer(self, feeds: Dict[str, Any]) -> Dict[str, Any]:
        """The outputs for some inputs, by name; the arrays belong to the engine until the next call."""
        for name, value in feeds.items():
            self.arrays[name][...] = value
            self.cuda.copy(self.places[name], self.arrays[name].ctypes.data, self.arrays[name].nbytes, TO_DEVICE)
        if not self.context.execute_v2(list(self.places.values())):
            raise RuntimeProblem("TensorRT could not run the engine; its log has the reason.")
        outputs = {name: array for name, array in self.arrays.items() if name not in {one[0] for one in self.inputs}}
        for name, array in outputs.items():
            self.cuda.copy(array.ctypes.data, self.places[name], array.nbytes, TO_HOST)
        return outputs

    def new_call(self) -> Callable[[], Any]:
        """One inference on a fixed input; calls share the engine's buffers, so that only one may run at once."""
        feeds = sample(self.inputs)
        return lambda: self.infer(feeds)


RUNTIME = TensorRt


class ByTrtexec(Runtime):
    """The same engine, asked by a run of trtexec for each batch: seconds each, but nothing needs to be installed."""

    def __init__(self, path: str, config: Dict[str, Any], batch: int) -> None:
        self.asked = config["trtexec"]
        self.tool = path_of(self.asked["tool"])
        self.whole_batches = not any(COUNT in flag for flag in self.asked["argv"])
        self.info = {"runtime": "tensorrt", "version": self.asked["version"], "asked_by": "trtexec"}

    def answer(self, images: Any) -> Dict[str, Any]:
        """The outputs for a batch; numbers have the six digits that trtexec writes."""
        import numpy

        images.tofile(self.asked["input"])
        flags = [re.sub("([=:])@", r"\1", flag.replace(COUNT, str(len(images)))) for flag in self.asked["argv"]]
        process = subprocess.Popen([self.tool] + flags, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = process.communicate()
        if process.returncode != 0:
            lines = said.decode("utf-8", "replace").splitlines()
            words = [line for line in lines if "[E]" in line] or lines
            raise RuntimeProblem(
                "trtexec could not answer (code %d): %s" % (process.returncode, " | ".join(words[-3:]))
            )
        with open(self.asked["output"], encoding="utf-8") as file:
            found = json.load(file)
        return {one["name"]: numpy.array(one["values"], "float32").reshape(sizes(one["dimensions"])) for one in found}


def sizes(dimensions: str) -> List[int]:
    """``1x10`` as numbers."""
    return [int(size) for size in dimensions.split("x") if size.isdigit()]


def api() -> Any:
    """TensorRT's Python package; RuntimeProblem for none, or for one that only trtexec can be used of."""
    trt = module()
    version = tuple(int(part) for part in trt.__version__.split(".")[:2])
    if version < OLDEST:
        raise RuntimeProblem(
            "TensorRT %s has no names of tensors in its Python API (8.5 has); let trtexec answer here."
            % trt.__version__
        )
    lacks = lacking(trt)
    if lacks:
        raise RuntimeProblem("TensorRT %s lacks %s; let trtexec answer here." % (trt.__version__, ", ".join(lacks)))
    return trt


def module() -> Any:
    """TensorRT's Python package, which JetPack brings for the system's own Python."""
    try:
        import numpy  # noqa: F401
        import tensorrt
    except Exception as error:  # a broken installation may raise anything
        raise RuntimeProblem(
            "tensorrt cannot be imported by %s (%s). JetPack has it in the packages python3-libnvinfer and "
            "python3-numpy, for the system's own Python: set transport.python to it; or let trtexec answer."
            % (sys.executable, error)
        )
    return tensorrt


def lacking(trt: Any) -> List[str]:
    """The classes' attributes that are used here and that an edition of TensorRT does not have."""
    return [
        "%s.%s" % (kind, name)
        for kind, names in sorted(NEEDS.items())
        for name in names
        if not hasattr(getattr(trt, kind, None), name)
    ]


class CudaPython(object):
    """Memory of the processor by NVIDIA's cuda-python."""

    name = "cuda-python"

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime as cudart
        except ImportError:
            from cuda import cudart  # before version 12.6
        self.cudart: Any = cudart

    def allocate(self, size: int) -> int:
        """The address of new memory."""
        return int(self.checked(self.cudart.cudaMalloc(max(1, size))))

    def copy(self, target: int, source: int, size: int, kind: int) -> None:
        """Copies; the address that is not the processor's is numpy's."""
        self.checked(self.cudart.cudaMemcpy(target, source, size, self.cudart.cudaMemcpyKind(kind)))

    def checked(self, answer: Tuple[Any, ...]) -> Any:
        """The result of a call, or the error that it returned."""
        if int(answer[0]) != 0:
            raise RuntimeProblem("CUDA: %s" % answer[0])
        return answer[1] if len(answer) > 1 else None


class Cupy(object):
    """Memory of the processor by cupy."""

    name = "cupy"

    def __init__(self) -> None:
        import cupy

        self.cupy: Any = cupy
        self.held: List[Any] = []

    def allocate(self, size: int) -> int:
        """The address of new memory, which lives as long as this object."""
        self.held.append(self.cupy.cuda.alloc(max(1, size)))
        return int(self.held[-1].ptr)

    def copy(self, target: int, source: int, size: int, kind: int) -> None:
        """Copies; the address that is not the processor's is numpy's."""
        self.cupy.cuda.runtime.memcpy(target, source, size, kind)


def device_memory() -> Any:
    """The first of cuda-python and cupy that is on this board."""
    for kind in (CudaPython, Cupy):
        try:
            return kind()
        except Exception:  # a broken wheel may raise anything
            continue
    raise RuntimeProblem(
        "Neither cuda-python nor cupy is on this board, and answers by TensorRT's Python API need one: "
        "%s -m pip install cuda-python; or let trtexec answer." % sys.executable
    )
