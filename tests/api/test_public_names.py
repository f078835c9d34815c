"""`import edgecr` is light; its names are lazy, complete and known to type checkers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import edgecr

SOURCE = Path(edgecr.__file__)
HEAVY = ("torch", "numpy", "pydantic", "yaml", "rich", "typer", "onnx", "onnxruntime", "lightning_fabric", "PIL")


def printed_by(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=SOURCE.parents[1]).stdout.strip()


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, edgecr\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE.parents[1]
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    assert set(edgecr.__all__) <= set(dir(edgecr))
    for name in edgecr.__all__:
        assert callable(getattr(edgecr, name))
    assert edgecr.__all__ == sorted(edgecr.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'edgecr' has no attribute 'enlarge'"):
        _ = edgecr.enlarge


def test_type_checkers_are_told_of_the_same_objects_from_the_same_modules():
    """Compares the imports below TYPE_CHECKING with what the names really are."""
    tree = ast.parse(SOURCE.read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    told = {alias.asname: (node.module, alias.name) for node in block.body for alias in node.names}
    assert set(told) == set(edgecr.__all__)
    assert {name: home for name, home in told.items() if name != "robustness"} == edgecr._HOMES


def test_robustness_is_the_function_and_the_package():
    import edgecr.robustness.suites
    from edgecr.api.measuring import robustness

    assert edgecr.robustness.suites.suites.get("noise5").conditions[0] == "clean"
    with pytest.raises(edgecr.EdgecrError, match="A file brings no images"):
        edgecr.robustness(__file__)
    with pytest.raises(edgecr.EdgecrError, match="A file brings no images"):
        robustness(__file__)


def test_a_mistake_in_a_recipe_is_told_before_torch_is_loaded():
    code = (
        "import sys, edgecr\n"
        "try:\n    edgecr.compress({'name': 'x', 'modle': {}})\n"
        "except edgecr.EdgecrError as error:\n    assert 'modle' in str(error)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE.parents[1]
    )
    assert done.stdout.strip() == "False"
