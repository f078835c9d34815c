"""Checks a recipe whole: all of its mistakes are reported at once, with their places, before any work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from edgecr.core.errors import EdgecrError, Problem, RecipeError
from edgecr.core.yaml_text import Document, KeyPath, check, dotted
from edgecr.exporters.base import load_target
from edgecr.methods import methods
from edgecr.methods.base import Method
from edgecr.recipe.labels import label_problems
from edgecr.recipe.merge import overlaid
from edgecr.recipe.schema import Recipe, Robustness
from edgecr.recipe.walk import reads_baseline
from edgecr.report.gates.judge import check_gate_name, check_judgeable
from edgecr.robustness.suites import suites
from edgecr.runners.base import load_device
from edgecr.training.context import not_saved

LONGEST = 100
"""Entries of each list of a recipe, and of ``set``; looking every one of them up takes time."""
_LISTS: tuple[KeyPath, ...] = (("steps",), ("export",), ("measure", "devices"), ("robustness", "suites"), ("gates",))


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
            options = overlaid(method.presets[preset], options)
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
    return [*problems, *_unknown_in_steps(document), *_unknown_gates(document)]


def _unknown_gates(document: Document) -> Iterator[Problem]:
    """Gates that do not exist; those of a suite that does not exist are not told a second time."""
    gates, robustness = document.values.get("gates"), document.values.get("robustness")
    listed = robustness.get("suites") if isinstance(robustness, dict) else None
    named = [name for name in (listed if isinstance(listed, list) else Robustness().suites) if isinstance(name, str)]
    known = [name for name in named if name in suites]
    for name in gates if isinstance(gates, dict) else ():
        if any(name.startswith(f"{suite}_") for suite in named if suite not in known):
            continue
        try:
            check_gate_name(name, known)
        except EdgecrError as error:
            yield Problem(document.place(("gates", name)), dotted(("gates", name)), str(error))


def _unknown_in_steps(document: Document) -> Iterator[Problem]:
    """Devices, and export targets, that a step plans for."""
    steps = document.values.get("steps")
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        for name, options in step.items() if isinstance(step, dict) else ():
            for key, look_up in (("device", load_device), ("target", load_target)):
                path = ("steps", index, name, key)
                given = options.get(key) if isinstance(options, dict) else None
                if path in document.places and isinstance(given, str):
                    try:
                        look_up(given)
                    except EdgecrError as error:
                        yield Problem(document.place(path), dotted(path), str(error))


def _impossible(recipe: Recipe, document: Document) -> list[Problem]:
    """Mistakes that only show when several keys are seen together."""
    problems, devices = [], [load_device(name).name for name in recipe.measure.devices]
    for name, gate in recipe.gates.items():
        try:
            check_gate_name(name, recipe.robustness.suites, gate)
            check_judgeable(name, gate, devices, recipe.measure.batch)
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
    problems += _without_labels(recipe, document)
    problems += _one_name_twice(recipe, document)
    problems += _no_baseline_yet(recipe, document)
    problems += _nothing_to_go_back_to(recipe, document)
    problems += _misplaced(recipe, document)
    if not recipe.steps and not recipe.model.starts_trained:
        problems.append(
            Problem(
                document.place(("steps",)), "steps", "there is nothing to judge: give model.weights, or a train step"
            )
        )
    return problems


def _without_labels(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Wishes that need labels, where a look at the folders shows that there are none."""
    try:
        if recipe.data.has_labels():
            return
    except EdgecrError as error:
        yield Problem(document.place(("data",)), "data", str(error))
        return
    for path, text in label_problems(recipe):
        yield Problem(document.place(path), dotted(path), text)


def _misplaced(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Steps that cannot work on what earlier ones leave."""
    promised = set[str]()
    for index, step in enumerate(recipe.steps):
        if reason := step.method.misplaced(promised):
            path: KeyPath = ("steps", index, step.name)
            yield Problem(document.place(path), dotted(path), reason)
        promised.update(step.method.promises)


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


def _nothing_to_go_back_to(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Steps that go back to a state which no training before them keeps."""
    for index, step in enumerate(recipe.steps):
        kept = [update for earlier in recipe.steps[:index] for update in getattr(earlier.method, "snapshots", ())]
        update = step.method.goes_back_to
        if update is not None and update not in kept:
            path: KeyPath = ("steps", index, step.name, "when")
            yield Problem(document.place(path), dotted(path), not_saved(update, kept))


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
