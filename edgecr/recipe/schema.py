"""The recipe as data: its schema, its YAML and its schema for editors. Nothing here imports torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, create_model, model_validator

from edgecr.core.names import Name
from edgecr.core.options import Options
from edgecr.data import AnySource
from edgecr.exporters.base import load_target
from edgecr.methods import methods
from edgecr.methods.base import Method
from edgecr.models import AnyArchitecture
from edgecr.report.gates.judge import Gate

Positive = Annotated[int, Field(ge=1)]


class StepBase(Options):
    """One entry under ``steps:``: the name of one method and its options."""

    @model_validator(mode="after")
    def _one_method(self) -> StepBase:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"a step names exactly one method; known: {', '.join(methods.names())}")
        return self

    @property
    def name(self) -> str:
        """The method's name."""
        return next(iter(self.model_fields_set))

    @property
    def method(self) -> Method:
        """The method with its options."""
        chosen: Method = getattr(self, self.name)
        return chosen


if TYPE_CHECKING:
    Step = StepBase
else:
    _METHOD_FIELDS = {name: (methods.get(name), None) for name in methods}
    Step = create_model("Step", __base__=StepBase, __doc__=StepBase.__doc__, **_METHOD_FIELDS)


class Measure(Options):
    """Devices and batch sizes that the exported files are measured with."""

    devices: tuple[str, ...] = ("cpu",)
    """Names of devices, files in ``devices/``."""
    batch: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1,)
    """Batch sizes to measure."""
    allow_partial: bool = False
    """Judge a measurement although launches or rounds of it are missing; gates on it are INCOMPLETE otherwise."""


class Robustness(Options):
    """Corruptions that the exported files are tested on."""

    suites: tuple[str, ...] = ("noise5",)
    """Names of corruption suites."""
    images: Positive | None = None
    """Use only that many test images, chosen by the seed, for clean accuracy too; all when left out."""


class Recipe(Options):
    """The declaration of a run: one model, its compression, export and measurement, and the gates before it ships."""

    name: Name
    """Names the run's folder."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Everything random follows from it."""
    model: AnyArchitecture
    """The architecture of the baseline; with ``weights`` it needs no train step."""
    data: AnySource
    """Source of the images."""
    steps: tuple[Step, ...] = ()
    """Methods that are applied to the model, in order."""
    export: Annotated[tuple[str, ...], Field(min_length=1)] = ("onnx",)
    """Export targets, files in ``export/``; each one is measured on every device and judged there."""
    measure: Measure = Measure()
    """Devices and batch sizes that the exported files are measured with."""
    robustness: Robustness = Robustness()
    """Corruptions that the exported files are tested on."""
    prefer: Literal["latency", "size", "accuracy"] = "latency"
    """Orders the targets that may ship on a device: by latency (p50, smallest batch), file size, or clean accuracy."""
    gates: dict[str, Gate] = Field(default={})
    """Conditions for a target to ship on a device; a run ships when on every device at least one target does."""

    @property
    def baseline_steps(self) -> int:
        """Number of leading steps that make the uncompressed baseline."""
        for index, step in enumerate(self.steps):
            if step.method.compresses:
                return index
        return len(self.steps)

    def canonical(self) -> dict[str, Any]:
        """The content of the recipe as plain values: defaults left out, export targets spelled out."""
        return self.plain() | {"export": [load_target(name).plain() for name in self.export]}


def as_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML that gives the same recipe when loaded."""
    return yaml.safe_dump(json.loads(json.dumps(recipe.plain())), sort_keys=False, allow_unicode=True)


def editor_schema() -> dict[str, Any]:
    """A JSON schema for editors, made from the same models that check a recipe.

    Nothing is required in it: any key may come from ``extends``, a preset or the model's own section.
    """
    schema = Recipe.model_json_schema()
    schema["properties"]["extends"] = {"type": "string", "description": "A recipe to start from, by name or path."}
    schema["properties"]["set"] = {"type": "object", "description": "Changes to it: dotted key path to value."}
    for name in methods:
        method = schema["$defs"][methods.get(name).__name__]
        if presets := sorted(methods.get(name).presets):
            method["properties"]["preset"] = {"enum": presets, "description": "Named option values to start from."}
    _drop_required(schema)
    return schema


def _drop_required(schema: Any) -> None:
    if isinstance(schema, dict):
        if isinstance(schema.get("required"), list):
            del schema["required"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for inner in schema:
            _drop_required(inner)
