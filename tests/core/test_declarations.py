"""Every shipped YAML loads, and opens with its purpose and its command."""

import re
from itertools import takewhile

import pytest

from edgecr.core import builtin
from edgecr.core.errors import UnknownName
from edgecr.core.yaml_text import parse_yaml
from edgecr.exporters.base import load_target
from edgecr.recipe import as_yaml, checked, load_recipe, purpose
from edgecr.runners.base import load_device

RECIPES, TARGETS, DEVICES = (builtin.names(kind) for kind in builtin.KINDS)


def test_there_are_declarations_of_every_kind():
    assert "quickstart" in RECIPES
    assert "onnx" in TARGETS
    assert {"cpu", "jetson"} <= set(DEVICES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name):
    recipe = load_recipe(name)
    folder, _, rest = name.partition("/")
    assert recipe.name == (rest.replace("/", "_") if folder == "papers" else name.rpartition("/")[2])
    assert checked(parse_yaml(as_yaml(recipe), "again")) == recipe


def test_recipes_lie_in_folders_by_what_they_are_for_and_none_share_a_name():
    assert {name.partition("/")[0] for name in RECIPES} == {"quickstart", "quick", "papers", "latency"}
    assert len({load_recipe(name).name for name in RECIPES}) == len(RECIPES)


def opening(name):
    """The comment that a recipe opens with, without its marks."""
    lines = builtin.find("recipes", name).read_text().splitlines()
    return [line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines)]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_how_long_it_takes_on_what(name):
    (time,) = (line for line in opening(name) if line.startswith("Time:"))
    assert re.search(r"\b(minutes?|hours?|days?|weeks?)\b.* on (one|two) ", time)


@pytest.mark.parametrize("name", RECIPES)
def test_variants_in_the_opening_comment_are_good_recipes(name):
    for line in opening(name):
        if changes := re.findall(r"--set (\S+)", line):
            assert load_recipe(name, changes) != load_recipe(name)


@pytest.mark.parametrize("name", TARGETS)
def test_target(name):
    assert load_target(name).name == name


@pytest.mark.parametrize("name", DEVICES)
def test_device(name):
    assert load_device(name).name == name


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in builtin.KINDS for n in builtin.names(k)])
def test_opens_with_purpose_and_command(kind, name):
    file = builtin.find(kind, name)
    head = "\n".join(line for line in file.read_text().splitlines()[:6] if line.startswith("#"))
    assert purpose(file)
    command = re.search(r"Command: (edgecr .+)", head)
    assert command
    if kind == "recipes":
        assert command.group(1).split()[:3] == ["edgecr", "compress", f"recipes/{name}.yaml"]


def test_a_near_name_is_suggested():
    with pytest.raises(UnknownName, match="'quickstart'"):
        builtin.find("recipes", "quikstart")


def test_a_users_own_declaration_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "cpu.yaml").write_text("mine")
    assert builtin.find("devices", "cpu").read_text() == "mine"
