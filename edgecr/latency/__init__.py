"""The latency table as data: what each layer takes on one device. Runners write it, methods read it."""

from edgecr.latency.calibration import DOUBT, PLAUSIBLE, Calibration, CalibrationPoint, Sums, Term, fitted
from edgecr.latency.layer import Dimension, LayerConfig
from edgecr.latency.table import (
    FLOATS,
    GAUGE,
    SCHEMA,
    Clock,
    Entry,
    Latency,
    LatencyTable,
    Machine,
    MissingEntry,
    Staircase,
    common_step,
    usual,
)

__all__ = [
    "DOUBT",
    "FLOATS",
    "GAUGE",
    "PLAUSIBLE",
    "SCHEMA",
    "Calibration",
    "CalibrationPoint",
    "Clock",
    "Dimension",
    "Entry",
    "Latency",
    "LatencyTable",
    "LayerConfig",
    "Machine",
    "MissingEntry",
    "Staircase",
    "Sums",
    "Term",
    "common_step",
    "fitted",
    "usual",
]
