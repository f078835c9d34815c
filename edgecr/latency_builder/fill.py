"""Filling a latency table for a model: its layers, what pruning can make of them, and the proof by whole models."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgecr.core.errors import UnsupportedModel
from edgecr.exporters.graph_target import GraphTarget
from edgecr.exporters.onnx.declaration import PLAIN
from edgecr.latency import LatencyTable, LayerConfig, Staircase
from edgecr.latency_builder.builder import Model, Prediction, TableBuilder
from edgecr.latency_builder.forms import write_model
from edgecr.subject import Subject
from edgecr.surgery.carry_out import prune_channels
from edgecr.surgery.planning.layers import LayerSizes, configurations, reachable
from edgecr.surgery.planning.plan import Plan, Planner, Scope
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.scoring.scores import ScoringInputs, scores
from edgecr.surgery.tracing.proof import proven_channels

SLIMMED = (0.25, 0.5, 0.7)
"""Fractions of every layer's channels that the models for the calibration lose."""
_USUAL = Limits()


@dataclass(frozen=True)
class Filled:
    """The outcome of filling a table."""

    table: LatencyTable
    path: Path
    measured: int
    staircases: tuple[Staircase, ...] = ()
    predictions: tuple[Prediction, ...] = ()


def pruning_grid(subject: Subject, batch: int, limits: Limits) -> list[LayerConfig]:
    """The layers of a model, and those that plans under the limits can lead to."""
    own = configurations(subject.module, subject.input_shape, batch)
    graph = proven_channels(subject.module, subject.input_shape)
    return [*own, *reachable(LayerSizes(subject.module, graph, batch), limits)]


def fill(
    builder: TableBuilder, subject: Subject, name: str, *, batch: int = 1, limits: Limits = _USUAL, check: bool = True
) -> Filled:
    """Measures what the table lacks for pruning this model; then checks it against whole models."""
    grid = pruning_grid(subject, batch, limits)
    measured = builder.measure(grid)
    stairs = builder.find_staircases(configurations(subject.module, subject.input_shape, batch))
    predictions = _checked(builder, subject, name, batch, limits) if check else []
    return Filled(builder.table, builder.path, measured, tuple(stairs), tuple(predictions))


def _checked(builder: TableBuilder, subject: Subject, name: str, batch: int, limits: Limits) -> list[Prediction]:
    """Exports the model and slimmed versions of it, and has them measured beside each other."""
    with tempfile.TemporaryDirectory(prefix="edgecr-models-") as folder:
        models = [
            exported(one, label, batch, Path(folder), builder.target)
            for label, one in {name: subject, **slimmed(subject, name, limits, SLIMMED)}.items()
        ]
        return builder.check(models)


def slimmed(
    subject: Subject, name: str, limits: Limits, fractions: Sequence[float], scope: Scope = "layer"
) -> dict[str, Subject]:
    """The model without these fractions of its channels, chosen by chance; empty if none can go."""
    found = {}
    for fraction in fractions:
        try:
            pruned = prune_channels(
                subject.input_shape,
                scores.get("random"),
                ScoringInputs(subject.module),
                limits,
                partial(_without, scope=scope, fraction=fraction),
            )
        except UnsupportedModel:
            return {}
        found[f"{name} -{fraction:.0%}"] = subject.with_changes(pruned.cut).with_module(pruned.module)
    return found


def _without(planner: Planner, scope: Scope, fraction: float) -> Plan:
    return planner.by_sparsity(scope, fraction)


def exported(subject: Subject, name: str, batch: int, folder: Path, target: GraphTarget = PLAIN) -> Model:
    """A model as a file for measuring only; its numbers are not proven."""
    own = folder / str(len(list(folder.iterdir())))
    own.mkdir()
    path, beside = write_model(subject, target, own)
    return Model(name, path, configurations(subject.module, subject.input_shape, batch), tuple(beside))
