"""``edgecr recipes|devices|targets|methods|suites``: lists and shows what there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgecr.cli.echo import echo
from edgecr.cli.listing import group, lists

recipes_app = group("recipes", "List, show and validate recipes.")
devices_app = group("devices", "List, show, add and trust device declarations.")
targets_app = group("targets", "List and show export targets, and check files for them.")
methods_app = group("methods", "List methods and show their options.")
suites_app = group("suites", "List and show corruption suites.")

NameArgument = Annotated[str, typer.Argument(help="Its name, or the path of its file.")]


def _list_files(kind: str) -> None:
    from edgecr.core import builtin
    from edgecr.recipe import purpose

    for name in builtin.names(kind):
        echo(f"{name:<28} {purpose(builtin.folder(kind) / f'{name}.yaml')}")


def _show_file(kind: str, name: str) -> None:
    from edgecr.core import builtin
    from edgecr.core.yaml_text import decoded, read_bytes

    file = builtin.find(kind, name)
    echo(f"# {file}\n{decoded(read_bytes(file), file)}", nl=False)


@lists(recipes_app)
def list_recipes() -> None:
    """The shipped recipes and their purposes."""
    _list_files("recipes")


@recipes_app.command("show")
def show_recipe(
    name: NameArgument,
    resolved: Annotated[bool, typer.Option("--resolved", help="With everything it extends filled in.")] = False,
) -> None:
    """The text of a recipe."""
    if not resolved:
        return _show_file("recipes", name)
    from edgecr.recipe import as_yaml, load_recipe

    return echo(as_yaml(load_recipe(name)), nl=False)


@recipes_app.command("validate")
def validate_recipes(files: Annotated[list[str], typer.Argument(help="Recipe files or names.")]) -> None:
    """Check recipes; lists every mistake with its line; exits 2 if there is one."""
    from edgecr.core.errors import EdgecrError
    from edgecr.recipe import load_recipe
    from edgecr.recipe.inputs import own_models

    failed = False
    for file in files:
        try:
            recipe = load_recipe(file)
            code = ", ".join(sorted(own_models(recipe)))
            needs = f"; --allow-code is needed to run {code}" if code else ""
            echo(f"{file}: good ({len(recipe.steps)} steps, {len(recipe.gates)} gates){needs}")
        except EdgecrError as error:
            failed = True
            echo(f"{file}: {error}", err=True)
    if failed:
        raise typer.Exit(2)


@recipes_app.command("schema")
def recipe_schema(
    output: Annotated[str, typer.Option("--output", "-o", help="File to write; '-' prints.")] = "-",
) -> None:
    """The JSON schema of recipes, for editors."""
    from edgecr.core.files import write_text
    from edgecr.recipe import editor_schema

    text = json.dumps(editor_schema(), indent=2)
    if output == "-":
        echo(text)
    else:
        write_text(Path(output), text + "\n")


@lists(targets_app)
def list_targets() -> None:
    """The shipped export targets and their purposes."""
    _list_files("export")


@targets_app.command("show")
def show_target(name: NameArgument) -> None:
    """The text of an export target."""
    _show_file("export", name)


@targets_app.command("check")
def check_file(
    target: NameArgument, file: Annotated[Path, typer.Argument(help="The ONNX file, from anywhere.")]
) -> None:
    """Hold a file against the documents of a target's runtime, which need not be here; exits 1 if it would refuse."""
    from edgecr.api.readiness import readiness

    found = readiness(target, file)
    for problem in found.problems:
        echo(f"PROBLEM {problem}")
    for remark in found.remarks:
        echo(f"remark  {remark}")
    for source in found.sources:
        echo(f"source  {source}")
    echo(
        f"{file}: {'not ready' if found.problems else 'ready'} for {target}, "
        "as far as documents tell; only the board's build proves it"
    )
    if found.problems:
        raise typer.Exit(1)


@lists(methods_app)
def list_methods() -> None:
    """The methods a step can name."""
    from edgecr.methods import methods

    for name in methods:
        echo(f"{name:<12} {_first_line(methods.get(name).__doc__)}")


@methods_app.command("show")
def show_method(name: Annotated[str, typer.Argument(help="The method's name.")]) -> None:
    """A method's options with the keys below them, their defaults, and its presets."""
    from edgecr.core.option_text import nested, option_lines
    from edgecr.methods import methods
    from edgecr.models.base import Architecture

    method = methods.get(name)
    echo(f"{name}: {_first_line(method.__doc__)}\n")
    for line in option_lines(method):
        echo(line)
    for below in nested(method, apart=(Architecture,)):
        echo(f"\n{below.title}: {_first_line(below.options.__doc__)}\n")
        for line in option_lines(below.options):
            echo(line)
    if method.presets:
        echo("")
    for preset, values in sorted(method.presets.items()):
        echo(f"preset {preset}: {json.dumps(dict(values))}")


@lists(suites_app)
def list_suites() -> None:
    """The corruption suites and their purposes."""
    from edgecr.robustness.suites import suites

    for name in suites:
        suite = suites.get(name)
        levels = f" Severities: {', '.join(map(str, suite.severities))}." if suite.severities else ""
        echo(f"{name:<12} {suite.purpose}{levels}")


@suites_app.command("show")
def show_suite(name: Annotated[str, typer.Argument(help="The suite's name.")]) -> None:
    """The corruptions of a suite with their exact arguments."""
    from edgecr.robustness.suites import suites

    suite = suites.get(name)
    echo(f"{name}: {suite.purpose}")
    for line in suite.lines():
        echo(f"  {line}")


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]
