"""EdgeCR: compress a vision model, export it, and prove on the device that it is still right and faster."""

__version__ = "0.1.0"
