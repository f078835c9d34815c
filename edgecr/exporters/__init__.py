"""Every way to write a subject as a file; importing this registers them all and loads no heavy library."""

from edgecr.exporters import onnx, openvino, tensorrt
from edgecr.exporters.base import (
    Artifact,
    Exporter,
    Parity,
    ParityLimits,
    Target,
    Written,
    exporters,
    load_target,
    manifest_path,
    parse_target,
    runtimes_of,
)

__all__ = [
    "Artifact",
    "Exporter",
    "Parity",
    "ParityLimits",
    "Target",
    "Written",
    "exporters",
    "load_target",
    "manifest_path",
    "onnx",
    "openvino",
    "parse_target",
    "runtimes_of",
    "tensorrt",
]
