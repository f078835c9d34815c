"""The ONNX format: written, cleaned, compared with PyTorch, recounted, and only then put in place."""

from edgecr.exporters.onnx.exporter import OnnxExporter

__all__ = ["OnnxExporter"]
