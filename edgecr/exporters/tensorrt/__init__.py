"""TensorRT's recipe: an ONNX file that a board builds its engine from, and the exact flags of that build."""

from edgecr.exporters.tensorrt.declaration import TensorRtTarget
from edgecr.exporters.tensorrt.exporter import TensorRtExporter

__all__ = ["TensorRtExporter", "TensorRtTarget"]
