"""The power sensors of a device, as its file declares them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgecr.core.options import Options


class Power(Options):
    """The measurement of power while models are timed; none of it needs root where the kernel shows the sensors."""

    source: Literal["auto", "hwmon", "rapl", "pmic", "tegrastats"] = "auto"
    """INA chips of a Jetson (``hwmon``, ``tegrastats``), energy counters of an x86 processor (``rapl``), or the power
    controller of a Raspberry Pi 5 (``pmic``); ``auto`` takes the first that there is."""
    total_rail: str | None = None
    """The rail that all power goes through; by the rules of known boards when left out."""
    scope: Literal["module", "board", "rails", "package"] | None = None
    """The part of the machine that the total is of, where the file knows better than those rules."""
    period_ms: Annotated[float, Field(ge=1)] = 20.0
    """Milliseconds between two readings; some sources are slower."""
    idle_s: Annotated[float, Field(ge=0)] = 30.0
    """Seconds before the measurement in which the idle board's power is read, to be subtracted; 0: it is not."""
