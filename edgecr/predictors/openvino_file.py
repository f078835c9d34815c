"""Reading OpenVINO's files, without its telemetry and without running them."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgecr.core.errors import FileProblem, RequestError
from edgecr.core.files import opened
from edgecr.predictors.onnx_file import check_name

INSTALL = 'pip install "edgecr[openvino]"'
_GRAPH = ".xml"
LAYERS = ("edgecr", "layers")
"""The place in a file of the names of its layers, in the order in which PyTorch runs them."""


def require(*packages: str) -> None:
    """RequestError, with what to install, unless these packages of OpenVINO are there; none is imported."""
    for package in packages:
        if find_spec(package) is None:
            raise RequestError(f"The package {package} is needed and not installed here. Install it: {INSTALL}")


def openvino_library(package: str = "openvino") -> Any:
    """OpenVINO, or its quantiser, imported without its telemetry, which starts a process and writes into the home."""
    require(package)
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(package)
    except Exception as error:  # an installation that is broken raises whatever it meets
        raise RequestError(
            f"The package {package} is installed here, but it cannot be imported: {last_line(error)}. Mend the "
            f"installation: {INSTALL.replace('install', 'install --force-reinstall')}"
        ) from error


def read_openvino(path: Path) -> Any:
    """The model in an OpenVINO file, or in an ONNX file; a damaged one is a FileProblem."""
    check_name(path)
    with opened(path):  # what is no file, such as a pipe, would be waited for
        pass
    library = openvino_library()
    if path.suffix == _GRAPH and not path.with_suffix(".bin").is_file():
        raise FileProblem(f"{path.with_suffix('.bin')} does not exist; it holds the weights of {path.name}.")
    try:
        reader = _reader("ir" if path.suffix == _GRAPH else "onnx")
        model = reader.convert(reader.load(str(path)))
    except Exception as error:  # the library raises RuntimeError, and others where it meets them
        raise FileProblem(f"{path} cannot be read by openvino {library.__version__}: {last_line(error)}") from error
    if not model.inputs or not model.outputs:
        raise FileProblem(f"{path} holds no model with an input and an output.")
    return model


@cache
def _reader(kind: str) -> Any:
    """The reader of one format; left to choose, the library tries all of its own, which print what they think."""
    openvino_library()
    from openvino.frontend import FrontEndManager

    return FrontEndManager().load_by_framework(kind)


def described(port: Any) -> dict[str, Any]:
    """An input or output as a manifest tells it."""
    return {
        "name": port.any_name,
        "dtype": str(port.element_type.to_dtype()),
        "shape": [None if size.is_dynamic else size.get_length() for size in port.partial_shape],
    }


def last_line(error: BaseException) -> str:
    """The reason at the end of one of OpenVINO's long messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
