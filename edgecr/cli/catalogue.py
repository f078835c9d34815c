"""``edgecr recipes|devices|targets|methods|suites``: lists and shows what there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgecr.cli.app import app
from edgecr.cli.echo import echo

recipes_app = typer.Typer(help="List, show and validate recipes.", no_args_is_help=True)
devices_app = typer.Typer(help="List, show, add and trust device declarations.", no_args_is_help=True)
targets_app = typer.Typer(help="List and show export targets.", no_args_is_help=True)
methods_app = typer.Typer(help="List methods and show their options.", no_args_is_help=True)
suites_app = typer.Typer(help="List and show corruption suites.", no_args_is_help=True)
for _name, _sub in (
    ("recipes", recipes_app),
    ("devices", devices_app),
    ("targets", targets_app),
    ("methods", methods_app),
    ("suites", suites_app),
):
    app.add_typer(_sub, name=_name)

NameArgument = Annotated[str, typer.Argument(help="Its name, or the path of its file.")]


def _list_files(kind: str) -> None:
    from edgecr import builtin
    from edgecr.recipe import purpose

    for name in builtin.names(kind):
        echo(f"{name:<28} {purpose(builtin.folder(kind) / f'{name}.yaml')}")


def _show_file(kind: str, name: str) -> None:
    from edgecr import builtin
    from edgecr.yaml_text import decoded, read_bytes

    file = builtin.find(kind, name)
    echo(f"# {file}\n{decoded(read_bytes(file), file)}", nl=False)


@recipes_app.command("list")
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
    from edgecr.errors import EdgecrError
    from edgecr.recipe import load_recipe
    from edgecr.recipe_inputs import own_models

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
    from edgecr.files import write_text
    from edgecr.recipe import editor_schema

    text = json.dumps(editor_schema(), indent=2)
    if output == "-":
        echo(text)
    else:
        write_text(Path(output), text + "\n")


@targets_app.command("list")
def list_targets() -> None:
    """The shipped export targets and their purposes."""
    _list_files("export")


@targets_app.command("show")
def show_target(name: NameArgument) -> None:
    """The text of an export target."""
    _show_file("export", name)


@methods_app.command("list")
def list_methods() -> None:
    """The methods a step can name."""
    from edgecr.methods import methods

    for name in methods:
        echo(f"{name:<12} {_first_line(methods.get(name).__doc__)}")


@methods_app.command("show")
def show_method(name: Annotated[str, typer.Argument(help="The method's name.")]) -> None:
    """A method's options, their defaults and its presets."""
    from edgecr.methods import methods
    from edgecr.option_text import option_lines

    method = methods.get(name)
    echo(f"{name}: {_first_line(method.__doc__)}\n")
    for line in option_lines(method):
        echo(line)
    for preset, values in sorted(method.presets.items()):
        echo(f"preset {preset}: {json.dumps(dict(values))}")


@suites_app.command("list")
def list_suites() -> None:
    """The corruption suites and their purposes."""
    from edgecr.robustness.suites import suites

    for name in suites:
        echo(f"{name:<12} {suites.get(name).purpose}")


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
