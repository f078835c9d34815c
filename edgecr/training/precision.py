"""The choice of a number format: bf16 where the processor computes in it."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


def on_cuda(accelerator: str) -> bool:
    """Returns True if an accelerator's name means CUDA on this machine."""
    return accelerator in ("cuda", "gpu") or (accelerator == "auto" and torch.cuda.is_available())


def resolve(precision: str, accelerator: str) -> Precision:
    """Returns the number format that ``auto`` means here; the others stand for themselves."""
    if precision == "auto":
        return "bf16" if _computes_bf16(accelerator) else "fp32"
    return "bf16" if precision == "bf16" else "fp32"


def _computes_bf16(accelerator: str) -> bool:
    if on_cuda(accelerator):
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    # Without these instructions bf16 is emulated and slower than fp32.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return accelerator in ("cpu", "auto") and any(getattr(torch.cpu, probe, bool)() for probe in probes)
