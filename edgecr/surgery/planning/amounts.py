"""The names of the figures that budgets limit, and their amounts in words; reports read plans by it, without torch."""

from __future__ import annotations

SIZE, LATENCY, CHANNELS = "size", "latency", "channels"
WHOLE_LATENCY = "measured latency"
"""Of the whole model, where ``latency`` is what the table says."""


def in_words(name: str, amount: float) -> str:
    """An amount of a figure with its unit."""
    if name == SIZE:
        return f"{amount / 1e6:.4g} MB"
    if name in (LATENCY, WHOLE_LATENCY):
        return f"{amount / 1e6:.4g} ms"
    return f"{amount:,.0f}"
