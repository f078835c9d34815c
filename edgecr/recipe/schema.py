"""The recipe: its schema, its loading (``extends``, ``set``, presets, overrides) and its canonical text.

Nothing here imports torch: a recipe is checked whole, and all its mistakes are reported, before any work.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, create_model, model_validator

from edgecr.core import builtin
from edgecr.core.errors import EdgecrError, FileProblem, Problem, RecipeError, RequestError
from edgecr.core.names import Name
from edgecr.core.options import Options
from edgecr.core.yaml_text import DEEPEST, Document, KeyPath, check, decoded, dotted, parse_yaml, read_bytes, read_yaml
from edgecr.data import AnySource
from edgecr.exporters.base import load_target
from edgecr.methods import methods
from edgecr.methods.base import Method
from edgecr.models import AnyArchitecture
from edgecr.recipe.walk import reads_baseline
from edgecr.report.gates.judge import Gate, check_gate_name
from edgecr.robustness.suites import suites
from edgecr.runners.base import load_device

Positive = Annotated[int, Field(ge=1)]
LONGEST = 100
"""Entries of each list of a recipe, and of ``set``; looking every one of them up takes time."""
DEEPEST_EXTENDS = 16
_LISTS: tuple[KeyPath, ...] = (("steps",), ("export",), ("measure", "devices"), ("robustness", "suites"), ("gates",))


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


def load_recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe by path or shipped name, applies ``a.b=c`` overrides and checks it whole."""
    return checked(gather(builtin.find("recipes", name), overrides))


def checked(document: Document) -> Recipe:
    """The recipe that a document describes; raises all of its mistakes at once."""
    if not isinstance(document.values, dict):
        raise RecipeError([Problem(document.place(()), "", "a recipe is a mapping of keys")])
    if too_long := _too_long(document):
        raise RecipeError(too_long)
    problems = complete(document)
    recipe = None
    try:
        recipe = check(Recipe, document)
    except RecipeError as error:
        problems += error.problems
    problems += _unknown_names(document)
    if recipe and not problems:
        problems += _impossible(recipe, document)
    if problems:
        raise RecipeError(_in_order(problems))
    assert recipe is not None
    return recipe


def _too_long(document: Document) -> list[Problem]:
    """Lists with more entries than anybody means, before each entry is looked up."""
    problems = []
    for path in _LISTS:
        here: Any = document.values
        for part in path:
            here = here.get(part) if isinstance(here, dict) else None
        if isinstance(here, dict | list) and len(here) > LONGEST:
            problems.append(Problem(document.place(path), dotted(path), f"has more than {LONGEST} entries"))
    return problems


def gather(file: Path, overrides: Iterable[str] = ()) -> Document:
    """One document from a recipe file, the recipes it extends and the overrides, innermost last."""
    document = _extended(file, ())
    for text in overrides:
        _override(document, text)
    return document


def _extended(file: Path, seen: tuple[Path, ...]) -> Document:
    if file.resolve() in seen:
        raise RecipeError([Problem(f"{file}:1", "extends", "the recipes extend one another in a circle")])
    if len(seen) == DEEPEST_EXTENDS:
        raise RecipeError([Problem(f"{file}:1", "extends", f"more than {DEEPEST_EXTENDS} recipes extend one another")])
    document = read_yaml(file)
    values = document.values
    if not isinstance(values, dict):
        return document
    changes = values.pop("set", None) or {}
    parent = values.pop("extends", None)
    if parent is not None:
        if not isinstance(parent, str):
            raise RecipeError([Problem(document.place(("extends",)), "extends", "must be one recipe's name or path")])
        try:
            base = _extended(builtin.find("recipes", parent, file.parent), (*seen, file.resolve()))
        except (FileProblem, RequestError) as error:
            if isinstance(error, RecipeError):
                raise
            raise RecipeError([Problem(document.place(("extends",)), "extends", str(error))]) from error
        document = _merged(base, document)
    if not isinstance(changes, dict):
        raise RecipeError([Problem(document.place(("set",)), "set", "must map key paths to values")])
    if len(changes) > LONGEST:
        raise RecipeError([Problem(document.place(("set",)), "set", f"has more than {LONGEST} entries")])
    for path, value in changes.items():
        _put(document, path, value, document.place(("set", path)))
    return document


def _merged(base: Document, top: Document) -> Document:
    """Mappings are merged key by key; anything else in ``top`` replaces what ``base`` says."""
    values = _overlaid(base.values, top.values)
    return Document(values, base.places | top.places)


def _overlaid(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``base`` with the keys of ``top``, mapping by mapping."""
    values = copy.deepcopy(dict(base))
    for key, value in top.items():
        inner = values.get(key)
        values[key] = _overlaid(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return values


def _override(document: Document, text: str) -> None:
    path, equals, value = text.partition("=")
    where = f"--set {text}"
    if not equals or not path:
        raise RequestError(f"{where}: write it as KEY.PATH=VALUE, for example --set seed=1")
    _put(document, path, parse_yaml(value, where).values if value.strip() else None, where)


def _put(document: Document, path: str, value: Any, where: str) -> None:
    """Sets the value at a dotted path, making mappings on the way; list entries must exist."""
    parts: list[str | int] = [int(part) if re.fullmatch(r"\d+", part) else part for part in path.split(".")]
    if len(parts) > DEEPEST:
        raise RecipeError([Problem(where, "", f"a key path has at most {DEEPEST} parts")])
    here = document.values
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(here, list) and (not isinstance(part, int) or part >= len(here)):
            raise RecipeError([Problem(where, dotted(tuple(parts[: depth + 1])), f"the list has {len(here)} entries")])
        if not isinstance(here, dict | list):
            raise RecipeError([Problem(where, path, f"{dotted(tuple(parts[:depth]))} is not a mapping")])
        key: Any = part if isinstance(here, list) else str(part)
        if last:
            here[key] = value
        else:
            if isinstance(here, dict) and here.get(key) is None:
                here[key] = {}
            here = here[key]
    keys = tuple(parts)
    for known in [known for known in document.places if known[: len(keys)] == keys]:
        del document.places[known]
    document.places[keys] = where


def complete(document: Document) -> list[Problem]:
    """Fills in presets and what methods derive from the rest of the recipe; returns the mistakes found."""
    problems: list[Problem] = []
    steps = document.values.get("steps")
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        if isinstance(step, str):
            steps[index] = step = {step: {}}
        if not isinstance(step, dict):
            continue
        for name, options in step.items():
            if name not in methods:
                continue
            options = {} if options is None else options
            if isinstance(options, dict):
                path: KeyPath = ("steps", index, name)
                step[name] = _completed(methods.get(name), options, path, document, problems)
    return problems


def _completed(
    method: type[Method], options: dict[str, Any], path: KeyPath, document: Document, problems: list[Problem]
) -> dict[str, Any]:
    options = dict(options)
    for old in [key for key in options if key in method.renamed]:
        where, text = document.place((*path, old)), f"this key is called {method.renamed[old]!r} now"
        problems.append(Problem(where, dotted((*path, old)), text))
        del options[old]
    preset = options.pop("preset", None)
    if preset is not None:
        if not isinstance(preset, str) or preset not in method.presets:
            known = ", ".join(sorted(method.presets)) or "none"
            where = document.place((*path, "preset"))
            problems.append(Problem(where, dotted((*path, "preset")), f"unknown preset {preset!r}; known: {known}"))
        else:
            options = _overlaid(method.presets[preset], options)
    try:
        return method.resolve(options, document.values)
    except EdgecrError as error:
        problems.append(Problem(document.place(path), dotted(path), str(error)))
        return options


def _unknown_names(document: Document) -> list[Problem]:
    """Targets, devices, suites and gates that do not exist, or whose own files have mistakes."""
    problems: list[Problem] = []
    values = document.values

    def each(path: KeyPath, look_up: Any) -> None:
        here: Any = values
        for part in path:
            here = here.get(part) if isinstance(here, dict) else None
        for index, name in enumerate(here if isinstance(here, list) else []):
            if not isinstance(name, str):
                continue
            try:
                look_up(name)
            except EdgecrError as error:
                problems.append(Problem(document.place((*path, index)), dotted((*path, index)), str(error)))

    each(("export",), load_target)
    each(("measure", "devices"), load_device)
    each(("robustness", "suites"), suites.get)
    return [*problems, *_unknown_step_devices(document)]


def _unknown_step_devices(document: Document) -> Iterator[Problem]:
    """Devices that a step plans for."""
    steps = document.values.get("steps")
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        for name, options in step.items() if isinstance(step, dict) else ():
            path = ("steps", index, name, "device")
            device = options.get("device") if isinstance(options, dict) else None
            if path in document.places and isinstance(device, str):
                try:
                    load_device(device)
                except EdgecrError as error:
                    yield Problem(document.place(path), dotted(path), str(error))


def _impossible(recipe: Recipe, document: Document) -> list[Problem]:
    """Mistakes that only show when several keys are seen together."""
    problems = []
    for name, gate in recipe.gates.items():
        try:
            check_gate_name(name, recipe.robustness.suites, gate)
        except EdgecrError as error:
            problems.append(Problem(document.place(("gates", name)), f"gates.{name}", str(error)))
    for key, listed in (
        ("export", recipe.export),
        ("measure.devices", recipe.measure.devices),
        ("measure.batch", recipe.measure.batch),
        ("robustness.suites", recipe.robustness.suites),
    ):
        if len(set(listed)) != len(listed):
            problems.append(Problem(document.place(tuple(key.split("."))), key, "names something twice"))
    problems += _one_name_twice(recipe, document)
    problems += _no_baseline_yet(recipe, document)
    if not recipe.steps and not recipe.model.starts_trained:
        problems.append(
            Problem(
                document.place(("steps",)), "steps", "there is nothing to judge: give model.weights, or a train step"
            )
        )
    return problems


def _no_baseline_yet(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Steps that compare with the baseline although they still make it."""
    for index, step in enumerate(recipe.steps[: recipe.baseline_steps]):
        if reads_baseline(step):
            path: KeyPath = ("steps", index, step.name, "loss")
            text = (
                "teacher: baseline is the model before the first step that compresses, and this step is part of making "
                "it; name another teacher, such as {run: DIR} or {weights: FILE}"
            )
            yield Problem(document.place(path), dotted(path), text)


def _one_name_twice(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Declarations that differ but give themselves one name, under which their results would overwrite each other."""
    loaders: tuple[tuple[KeyPath, tuple[str, ...], Callable[[str], Any]], ...] = (
        (("export",), recipe.export, load_target),
        (("measure", "devices"), recipe.measure.devices, load_device),
    )
    for key, listed, load in loaders:
        first: dict[str, str] = {}
        for index, given in enumerate(listed):
            name = load(given).name
            if first.setdefault(name, given) != given:
                text = f"{given} and {first[name]} both say `name: {name}`; give one of them another name"
                yield Problem(document.place((*key, index)), dotted((*key, index)), text)


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    unique = dict.fromkeys(problems)

    def line(problem: Problem) -> tuple[str, int]:
        file, _, number = problem.where.rpartition(":")
        return (file, int(number)) if number.isdigit() else (problem.where, 0)

    return sorted(unique, key=line)


def purpose(file: Path) -> str:
    """The purpose that a YAML states in its opening comment."""
    lines = []
    for line in decoded(read_bytes(file), file).splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    text = " ".join(lines)
    _, found, stated = text.partition("Purpose:")
    return stated.partition("Command:")[0].strip() if found else text


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


def source_purpose(name: str) -> str:
    """The purpose that a recipe named on the command line states."""
    return purpose(builtin.find("recipes", name))
