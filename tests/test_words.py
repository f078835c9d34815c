"""Words have one meaning: a public class name is used once."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import edgecr
from edgecr.core import builtin

FOLDERS = {"edgecr": Path(edgecr.__file__).parent, "devices": builtin.folder("devices")}


def modules():
    for name, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.py")):
            if "_builtin" not in file.relative_to(folder).parts:
                yield f"{name}/{file.relative_to(folder).as_posix()}", ast.parse(file.read_text())


def homonyms(trees):
    """Public class names with the files that define them, where these are several."""
    places = defaultdict(list)
    for file, tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(file)
    return {name: files for name, files in places.items() if len(files) > 1}


def test_a_public_class_name_is_used_once():
    assert homonyms(modules()) == {}


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (("class A: pass", "class A: pass"), {"A"}),
        (("class A: pass", "def f():\n class A: pass"), {"A"}),
        (("class _A: pass", "class _A: pass"), set()),
        (("class A: pass", "class B: pass"), set()),
    ],
)
def test_a_second_meaning_is_found(texts, found):
    assert homonyms((str(number), ast.parse(text)) for number, text in enumerate(texts)).keys() == found
