"""EdgeCR: compress a vision model, export it, and prove on the device that it is still right and faster.

The names below are loaded when they are first used, so that importing this package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "EdgecrError",
    "Report",
    "Run",
    "check",
    "compress",
    "distill",
    "export",
    "judge",
    "profile",
    "prune",
    "robustness",
    "shrink",
    "verify",
]

if TYPE_CHECKING:
    from edgecr.api.distilling import distill as distill
    from edgecr.api.exporting import export as export
    from edgecr.api.judging import judge as judge
    from edgecr.api.measuring import profile as profile
    from edgecr.api.measuring import robustness as robustness
    from edgecr.api.pruning import prune as prune
    from edgecr.api.runs import check as check
    from edgecr.api.runs import compress as compress
    from edgecr.api.shrinking import shrink as shrink
    from edgecr.api.verifying import verify as verify
    from edgecr.core.errors import EdgecrError as EdgecrError
    from edgecr.report.result import Result as Report
    from edgecr.run import Run as Run
else:
    from types import ModuleType

    from edgecr import robustness

    class _CallablePackage(ModuleType):
        """A package of that name exists, so the function is what calling the package does."""

        def __call__(self, *arguments: Any, **options: Any) -> Any:
            """Accuracy of exported files under a suite of corruptions: ``edgecr.api.measuring.robustness``."""
            from edgecr.api.measuring import robustness

            return robustness(*arguments, **options)

    robustness.__class__ = _CallablePackage

_HOMES = {
    "EdgecrError": ("edgecr.core.errors", "EdgecrError"),
    "Report": ("edgecr.report.result", "Result"),
    "Run": ("edgecr.run", "Run"),
    "check": ("edgecr.api.runs", "check"),
    "compress": ("edgecr.api.runs", "compress"),
    "distill": ("edgecr.api.distilling", "distill"),
    "export": ("edgecr.api.exporting", "export"),
    "judge": ("edgecr.api.judging", "judge"),
    "profile": ("edgecr.api.measuring", "profile"),
    "prune": ("edgecr.api.pruning", "prune"),
    "shrink": ("edgecr.api.shrinking", "shrink"),
    "verify": ("edgecr.api.verifying", "verify"),
}
"""The module that defines each lazy name, and its name there."""


def __getattr__(name: str) -> Any:
    """Loads a public name the first time it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgecr' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    found = globals()[name] = getattr(import_module(module), attribute)
    return found


def __dir__() -> list[str]:
    """All names, loaded or not."""
    return sorted({*globals(), *__all__})
