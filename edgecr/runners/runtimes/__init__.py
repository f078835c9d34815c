"""Options of every runtime that a device may declare; importing this registers them all and loads no library."""

from edgecr.runners.runtimes import openvino as openvino
from edgecr.runners.runtimes import ort as ort
from edgecr.runners.runtimes import tensorrt as tensorrt
from edgecr.runners.runtimes.base import RuntimeOptions, Runtimes, runtimes

__all__ = ["RuntimeOptions", "Runtimes", "runtimes"]
