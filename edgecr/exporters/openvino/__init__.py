"""OpenVINO's format: its targets, and the exporter that writes them."""

from edgecr.exporters.openvino.declaration import OpenVinoTarget
from edgecr.exporters.openvino.exporter import OpenVinoExporter

__all__ = ["OpenVinoExporter", "OpenVinoTarget"]
