"""The ONNX format: its targets, and the exporter that writes them."""

from edgecr.exporters.onnx.declaration import OnnxTarget
from edgecr.exporters.onnx.exporter import OnnxExporter

__all__ = ["OnnxExporter", "OnnxTarget"]
