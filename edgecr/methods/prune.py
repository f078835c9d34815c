"""Removal of channels, physically: what the exported file no longer holds, no device computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from edgecr.methods.base import Lab, Method, methods
from edgecr.options import Options

if TYPE_CHECKING:
    from edgecr.subject import Subject
    from edgecr.surgery.plan import Plan, Planner
    from edgecr.surgery.prune import Pruned

Share = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)]


class Budget(Options):
    """What may remain: a fraction (0.5) of the model before this step, or a number (150000)."""

    params: Share | None = None
    """Parameters, batch-norm scales and biases included."""
    macs: Share | None = None
    """Multiply-accumulates of convolutions and linear layers for one image."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.params is None and self.macs is None:
            raise ValueError("name at least one of params and macs")
        return self

    def shares(self) -> dict[str, int | float]:
        """The figures that were given."""
        given = {"params": self.params, "macs": self.macs}
        return {name: value for name, value in given.items() if value is not None}


@methods.register("prune")
class Prune(Method):
    """Remove the least important channels, once, from the layers and everything coupled to them."""

    compresses: ClassVar[bool] = True

    what: Literal["channels"] = "channels"
    """What goes: whole channels, from all coupled layers at once."""
    score: Literal["l1", "l2", "random"] = "l2"
    """Importance of a channel: norm of its filters, or chance."""
    normalise: bool = False
    """Divide norms by what the number of inputs adds to them, so that thin layers are not cut first."""
    scope: Literal["layer", "global"] = "global"
    """Rank all channels together, or take the same fraction of every layer."""
    sparsity: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Fraction of the removable channels that goes."""
    budget: Budget | None = None
    """What may remain; as few channels go as it takes."""
    align: Literal["auto", "off"] | Annotated[int, Field(ge=1)] = "auto"
    """Keep channel counts at multiples that processors like: 16 in wide layers, or a number, or off."""
    keep: tuple[str, ...] = ()
    """Layers that stay as they are, as name patterns: ``layer1``, ``*.conv2``."""
    min_channels: Annotated[int, Field(ge=1)] = 1
    """Channels that every layer keeps at least."""
    min_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of its channels that every layer keeps at least."""

    @field_validator("align", mode="before")
    @classmethod
    def _yaml_off(cls, value: Any) -> Any:
        """YAML reads a bare ``off`` as false."""
        return "off" if value is False else value

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        if (self.sparsity is None) == (self.budget is None):
            raise ValueError("give exactly one of sparsity (what goes) and budget (what may remain)")
        return self

    def apply(self, subject: Subject, lab: Lab) -> Subject:
        """Traces, plans, removes and proves the removal right; the figures are told and logged."""
        from edgecr.surgery.plan import Limits
        from edgecr.surgery.prune import prune_channels
        from edgecr.surgery.scores import Evidence, scores

        limits = Limits(self.align, self.min_channels, self.min_fraction, self.keep)
        evidence = Evidence(subject.module, self.normalise, lab.seed)
        score, why = scores.get(self.score), f"{self.score}, {self.scope}"
        pruned = prune_channels(subject.input_shape, score, evidence, limits, self._choose, why)
        self._tell(subject, pruned, lab)
        return subject.cut(pruned.cut).with_module(pruned.module)

    def _choose(self, planner: Planner) -> Plan:
        if self.budget is not None:
            return planner.by_budget(self.scope, self.budget.shares())
        return planner.by_sparsity(self.scope, self.sparsity or 0.0)

    def _tell(self, subject: Subject, pruned: Pruned, lab: Lab) -> None:
        """Says what was reached, under the same counter as the request."""
        from edgecr.surgery.counters import count

        before, after = count(subject.module, subject.input_shape), count(pruned.module, subject.input_shape)
        lab.monitor.say(
            f"Removed {pruned.plan.sparsity:.1%} of the channels of {len(pruned.graph.groups)} groups: "
            f"parameters {before.params:,} to {after.params:,} ({after.params / before.params:.1%} remain), "
            f"MACs {before.macs:,} to {after.macs:,} ({after.macs / before.macs:.1%} remain)."
        )
        for operator, layers in pruned.graph.stopped_by().items():
            where = ", ".join(layers[:3]) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
            lab.monitor.warn(f"Channels that meet operator {operator} in {where} stay: it is not known.")
        lab.monitor.event(
            "pruned",
            sparsity=pruned.plan.sparsity,
            params=[before.params, after.params],
            macs=[before.macs, after.macs],
            difference=pruned.difference,
            stays={frozen.layer: frozen.reason for frozen in pruned.graph.frozen},
        )
