"""Removal of channels, physically: what the exported file no longer holds, no device computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from edgecr.methods.base import Lab, Method, methods
from edgecr.methods.prune_options import Budget, OneShot, Schedule

if TYPE_CHECKING:
    from edgecr.subject import Subject

Score = Literal[
    "bn", "ft", "l1", "l2", "pfp", "random", "taylor", "taylor_bn", "taylor_gate", "taylor_joint"
]
_ADASAP = {
    "kind": "exponential", "start": 10, "steps": 41, "every": 30,
    "retrain": {
        "epochs": 90, "batch": 1024, "lr": 1.024, "momentum": 0.875, "weight_decay": 3.0518e-5, "warmup": 8,
        "decay_norm": False, "label_smoothing": 0.1,
        "sharpness": {
            "kind": "adasap", "rho_min": 2.0, "rho_max": 2.0,
            "phases": [{"epochs": 11, "rho_min": 0.01, "rho_max": 2.0}],
        },
    },
}


@methods.register("prune")
class Prune(Method):
    """Remove the least important channels from the layers and everything coupled to them."""

    compresses: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "halp": {
            "score": "taylor_bn", "scope": "knapsack",
            "schedule": {
                "kind": "exponential", "steps": 30, "every": 40,
                "retrain": {
                    "epochs": 90, "batch": 1024, "lr": 1.024, "momentum": 0.875, "weight_decay": 3.0518e-5,
                    "decay_norm": False, "label_smoothing": 0.1, "warmup": 8,
                },
            },
        },
        "adasap_p": {"score": "l2", "scope": "global", "schedule": _ADASAP},
        "adasap_l": {"score": "taylor_bn", "scope": "knapsack", "schedule": _ADASAP},
    }

    what: Literal["channels"] = "channels"
    """What goes: whole channels, from all coupled layers at once."""
    score: Score = "l2"
    """Importance of a channel: a norm, batch-norm scales, Taylor's estimates or sensitivities on data, or chance."""
    normalise: bool = False
    """Divide norms by what the number of inputs adds to them, so that thin layers are not cut first."""
    scope: Literal["layer", "global", "knapsack"] = "global"
    """Rank all channels together, take the same fraction of every layer, or weigh importance against cost."""
    sparsity: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Fraction of the removable channels that goes."""
    budget: Budget | None = None
    """What may remain; as few channels go as it takes."""
    schedule: Schedule = OneShot(kind="oneshot")
    """When channels go: all at once, in rounds with training between them, or while the model is trained."""
    device: str | None = None
    """Whose latency and preferred widths count; the first of measure.devices when left out."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Images in one call that latency is planned for; the first of measure.batch when left out."""
    align: Literal["auto", "off"] | Annotated[int, Field(ge=1)] = "auto"
    """Keep channel counts at multiples that the device likes: as it declares, or a number, or off."""
    keep: tuple[str, ...] = ()
    """Layers that stay as they are, as name patterns: ``layer1``, ``*.conv2``."""
    min_channels: Annotated[int, Field(ge=1)] = 1
    """Channels that every layer keeps at least."""
    min_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of its channels that every layer keeps at least."""
    max_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of its channels that every layer keeps at most; layers named by ``keep`` stay whole."""

    @field_validator("align", mode="before")
    @classmethod
    def _yaml_off(cls, value: Any) -> Any:
        """YAML reads a bare ``off`` as false."""
        return "off" if value is False else value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.sparsity is None) == (self.budget is None):
            raise ValueError("give exactly one of sparsity (what goes) and budget (what may remain)")
        if self.min_fraction > self.max_fraction:
            raise ValueError(f"min_fraction ({self.min_fraction:g}) exceeds max_fraction ({self.max_fraction:g})")
        if self.scope == "knapsack" and self.budget is not None and len(self.budget.shares()) > 1:
            raise ValueError("scope: knapsack weighs importance against one figure; name one in budget")
        return self

    @classmethod
    def resolve(cls, options: dict[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Plans for the device, and the batch size, that the recipe measures first."""
        measure, budget = recipe.get("measure"), options.get("budget")
        measure = measure if isinstance(measure, Mapping) else {}
        found = {}
        if by_latency := isinstance(budget, Mapping) and budget.get("latency") is not None:
            found["batch"] = _first(measure.get("batch"), 1)
        if by_latency or options.get("align", "auto") == "auto":
            found["device"] = _first(measure.get("devices"), "cpu")
        return found | {key: value for key, value in options.items() if value is not None}

    def apply(self, subject: Subject, lab: Lab) -> Subject:
        """Traces, plans, removes and proves the removal right; the figures are told and logged."""
        from edgecr.methods.pruning import Pruning

        return Pruning(self, subject, lab).done()


def _first(listed: Any, usual: Any) -> Any:
    return listed[0] if isinstance(listed, list) and listed else usual
