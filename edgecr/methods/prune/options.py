"""The options of pruning: targets, budgets and schedules. Torch-free: recipes are checked with them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from edgecr.core.options import Options
from edgecr.methods.base import Method
from edgecr.surgery.repair.options import RepairOptions
from edgecr.training.context import PLAIN_FILES
from edgecr.training.losses import completed
from edgecr.training.options import TrainOptions

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[int, Field(ge=1)] | Fraction
_NUMBER = r"^\d+(\.\d+)?"
Size = Annotated[str, Field(pattern=_NUMBER + r" ?(kB|MB|GB)$")]
Time = Annotated[str, Field(pattern=_NUMBER + r" ?(us|ms|s)$")]
_UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "us": 1e3, "ms": 1e6, "s": 1e9}
"""Bytes, and nanoseconds."""


class Budget(Options):
    """Limits on what remains: a fraction (0.5) of the model before this step, or a figure (150000, 5 MB, 3 ms)."""

    params: Share | None = None
    """Parameters, batch-norm scales and biases included."""
    macs: Share | None = None
    """Multiply-accumulates of convolutions and linear layers for one image."""
    size: Size | Fraction | None = None
    """Bytes of all parameters and fixed filters in fp32, such as ``5 MB``; a file has its description on top."""
    latency: Time | Fraction | None = None
    """Latency on the device, such as ``3 ms``, by its latency table; missing entries are measured."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.shares():
            raise ValueError(f"name at least one of {', '.join(type(self).model_fields)}")
        return self

    def shares(self) -> dict[str, int | float]:
        """The figures that were given: fractions, or whole numbers (sizes in bytes, times in nanoseconds)."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: _amount(value) for name, value in given.items() if value is not None}


def _amount(value: int | float | str) -> int | float:
    if not isinstance(value, str):
        return value
    number = re.match(r"[\d.]+", value)
    assert number is not None  # the pattern of the field says so
    return max(1, round(float(number.group()) * _UNITS[value[number.end() :].strip()]))


class Retraining(TrainOptions):
    """The training that goes with a pruning."""

    epochs: Annotated[int, Field(ge=1)] = 10
    """Passes over the training images; of an iterative schedule, after each step."""


class OneShot(Options):
    """All at once; a training may follow as a step of its own."""

    kind: Literal["oneshot"]
    """Name of the schedule."""


class Iterative(Options):
    """Some channels go, the rest is trained, and again; each time the same fraction of what is there."""

    kind: Literal["iterative"]
    """Name of the schedule."""
    steps: Annotated[int, Field(ge=1)] = 3
    """Number of rounds of removal and training."""
    retrain: Retraining = Retraining()
    """The training after each time."""


class Exponential(Options):
    """Channels go while the model is trained: masked every few updates, physically removed in the end."""

    kind: Literal["exponential"]
    """Name of the schedule."""
    start: Annotated[float, Field(ge=0)] = 0.0
    """Epochs before the first ones go."""
    steps: Annotated[int, Field(ge=1)] = 30
    """Number of times that channels go; each time the same fraction of what is there (de Jorge et al. 2021)."""
    every: Annotated[int, Field(ge=1)] = 40
    """Updates between two times; scores by gradients are averaged over them."""
    masks: Literal["hard", "soft"] = "hard"
    """Return of channels that went: never (hard), or possible until the last time (soft), as in SMCP."""
    slim: Literal["each", "end"] = "end"
    """The time at which masked channels are removed: each time, which trains faster and faster, or once at the end."""
    retrain: Retraining = Retraining()
    """The whole training: before, while and after channels go."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.retrain.keep == "best":
            raise ValueError("retrain.keep: best might choose an epoch before channels went; use keep: last")
        if self.start >= self.retrain.epochs:
            raise ValueError(f"start ({self.start:g}) must lie within the {self.retrain.epochs} epochs of retrain")
        if self.masks == "soft" and self.slim == "each":
            raise ValueError("slim: each removes channels that masks: soft would let return; use slim: end")
        return self


Schedule = Annotated[OneShot | Iterative | Exponential, Field(discriminator="kind")]


Score = Literal[
    "bn",
    "ft",
    "l1",
    "l1_in",
    "l2",
    "obs",
    "pfp",
    "random",
    "taylor",
    "taylor_bn",
    "taylor_gate",
    "taylor_in",
    "taylor_joint",
]
_BLIND = ("taylor", "taylor_bn", "taylor_gate", "taylor_joint")
"""Scores by gradients that a masked channel does not get where it is made."""
_NORMS = ("ft", "l1", "l1_in", "l2")
"""The scores that can be divided by what the number of inputs adds to them."""


class PruneOptions(Method):
    """The options of pruning; ``prune`` is the method that acts on them."""

    renamed: ClassVar[Mapping[str, str]] = {"schedule": "when", "keep": "exclude", "batch": "latency_batch"}

    what: Literal["channels"] = "channels"
    """Structures to remove: whole channels, from all coupled layers at once."""
    score: Score = "l2"
    """Importance of a channel: a norm, batch-norm scales, estimates on data (Taylor, OBS, PFP), or chance."""
    normalise: bool = False
    """Divide norms by what the number of inputs adds to them, so that thin layers are not cut first."""
    scope: Literal["layer", "global", "knapsack", "measured"] = "global"
    """Rank channels together, take the same share of every layer, or weigh importance or measured loss against cost."""
    drop: Literal["none", "blocks"] = "none"
    """Let whole residual blocks go too, where they hand on their input without their branch; with scope: measured."""
    sparsity: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Fraction of the removable channels that goes; channels that must stay are no part of the count."""
    budget: Budget | None = None
    """Limits on what remains; of all cuts that meet them, the smallest is made."""
    when: Schedule = OneShot(kind="oneshot")
    """Schedule of the removal: all at once, in rounds with training between them, or while the model is trained."""
    repair: bool | RepairOptions | None = None
    """Refit the layers without training to what they answered before: on with ``when: oneshot`` unless false."""
    recalibrate: bool = False
    """Give batch norms the statistics of 1,024 training images after a removal at once, with ``repair: false`` only."""
    device: str | None = None
    """Device whose latency and preferred widths count; the first of measure.devices when left out."""
    target: str = PLAIN_FILES
    """Export target whose files are planned for: their latency is measured, their precision decides widths."""
    latency_batch: Annotated[int, Field(ge=1)] | None = None
    """Images in one call that a latency is planned for; the first of measure.batch when left out."""
    align: Literal["auto", "off"] | Annotated[int, Field(ge=1)] = "auto"
    """Keep channel counts at multiples that the device likes: as it declares, or a number, or off."""
    exclude: tuple[str, ...] = ()
    """Layers that stay as they are, as name patterns: ``layer1``, ``*.conv2``; blocks that hold one are not dropped."""
    min_channels: Annotated[int, Field(ge=1)] = 1
    """Channels that every layer keeps at least; a block that ``drop`` lets go is no layer that remains."""
    min_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of its channels that every layer keeps at least; blocks may be dropped nevertheless."""
    max_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of its channels that every layer keeps at most; layers named by ``exclude`` stay whole."""
    strict: bool = False
    """Fail, rather than warn, when over 2 % more remains than was asked for."""

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
        if isinstance(self.when, Exponential) and self.when.masks == "soft" and self.score in _BLIND:
            raise ValueError(
                f"score: {self.score} is 0 for masked channels, so none would return with masks: soft; use taylor_in, "
                "or a score by weights"
            )
        if self.scope in ("knapsack", "measured") and self.budget is not None and len(self.budget.shares()) > 1:
            raise ValueError(f"scope: {self.scope} weighs channels against one figure; name one in budget")
        if self.drop == "blocks" and (self.scope != "measured" or self.budget is None):
            raise ValueError("drop: blocks weighs blocks by measured loss; it needs scope: measured and a budget")
        if self.scope == "measured" and self.repair is False:
            raise ValueError(
                "scope: measured values widths by the loss after a repair, so it needs one; leave repair: false out"
            )
        if self.scope == "measured" and not isinstance(self.when, OneShot):
            raise ValueError(
                f"scope: measured plans once, for a repaired model; it does not go with when: {self.when.kind}"
            )
        return self

    @model_validator(mode="after")
    def _says_nothing_in_vain(self) -> Self:
        """Options that nothing would ask for in this combination are mistakes, not wishes."""
        by_latency = self.budget is not None and self.budget.latency is not None
        if self.normalise and self.score not in _NORMS:
            raise ValueError(
                f"normalise does nothing with score: {self.score}; it divides the norms {', '.join(_NORMS)} only"
            )
        if self.repair and not isinstance(self.when, OneShot):
            raise ValueError(
                f"repair does nothing with when: {self.when.kind}, which trains what is left; leave it out"
            )
        if self.recalibrate and not isinstance(self.when, OneShot):
            raise ValueError(
                f"recalibrate does nothing with when: {self.when.kind}, which trains what is left; leave it out"
            )
        if self.recalibrate and self.repairs is not None:
            raise ValueError(
                "recalibrate undoes a repair: a repaired layer answers with less variance, and statistics taken anew "
                "blow that up again; leave it out, or add repair: false"
            )
        if self.latency_batch is not None and not by_latency:
            raise ValueError(
                "latency_batch does nothing without a budget of latency; leave it out, or add budget.latency"
            )
        if self.device is not None and not by_latency and self.align != "auto":
            raise ValueError(
                "device does nothing without a budget of latency or align: auto; leave it out, or use one of them"
            )
        if self.target != PLAIN_FILES and not by_latency and self.align != "auto":
            raise ValueError(
                "target does nothing without a budget of latency or align: auto; leave it out, or use one of them"
            )
        return self

    @property
    def needs_labels(self) -> bool:
        """True for scores by gradients, and for a training that looks at labels."""
        trained = not isinstance(self.when, OneShot) and self.when.retrain.needs_labels
        return trained or self.score in (*_BLIND, "taylor_in")

    def misplaced(self, promised: Collection[str]) -> str:
        """Binary weights are latent while they are trained, so no channel of them can go then."""
        if "binary" not in promised or not isinstance(self.when, Exponential):
            return ""
        return (
            "when: exponential removes channels while the model is trained, and binary weights are latent then. "
            "Prune before they are made binary, or with when: oneshot or iterative."
        )

    @property
    def timed_target(self) -> str | None:
        """The export target whose files must be measured for the plan; None without a budget of latency."""
        return self.target if self.budget is not None and self.budget.latency is not None else None

    @property
    def repairs(self) -> RepairOptions | None:
        """The options of the repair; None where there is none."""
        if not isinstance(self.when, OneShot) or self.repair is False:
            return None
        return self.repair if isinstance(self.repair, RepairOptions) else RepairOptions()

    @classmethod
    def resolve(cls, options: dict[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Plans for the device, and the batch size, that the recipe measures first."""
        measure, budget = recipe.get("measure"), options.get("budget")
        measure = measure if isinstance(measure, Mapping) else {}
        found = {}
        if by_latency := isinstance(budget, Mapping) and budget.get("latency") is not None:
            found["latency_batch"] = _first(measure.get("batch"), 1)
        if by_latency or options.get("align", "auto") == "auto":
            found["device"] = _first(measure.get("devices"), "cpu")
        options = options | {"when": _with_loss(options.get("when"), recipe)}
        return found | {key: value for key, value in options.items() if value is not None}


def _with_loss(schedule: Any, recipe: Mapping[str, Any]) -> Any:
    """A raw schedule, with what the loss of its training says completed from the recipe."""
    retrain = schedule.get("retrain") if isinstance(schedule, Mapping) else None
    return {**schedule, "retrain": completed(retrain, recipe)} if isinstance(retrain, Mapping) else schedule


def _first(listed: Any, usual: Any) -> Any:
    return listed[0] if isinstance(listed, list) and listed else usual
