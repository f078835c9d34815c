"""The direction of imports: the house has floors, and nobody reaches upwards."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import edgecr

PACKAGE = Path(edgecr.__file__).parent
FLOORS = [
    {"cli", "reference", "__main__"},
    {"api"},
    {"pipeline"},
    {"stages", "latency_builder"},
    {"recipe"},
    {"methods", "exporters", "robustness", "report"},
    {"runners"},
    {"training", "subject", "predictors", "tasks", "models", "data", "surgery", "weights", "latency", "run"},
    {"core"},
]
LEVEL = {room: len(FLOORS) - number for number, floor in enumerate(FLOORS) for room in floor}
APART = ("methods", "exporters", "runners")


def imports():
    for file in sorted(PACKAGE.rglob("*.py")):
        room = file.relative_to(PACKAGE).with_suffix("").parts[0]
        if room in ("__init__", "_builtin"):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgecr"):
                names = [node.module] if node.module != "edgecr" else [f"edgecr.{n.name}" for n in node.names]
            elif isinstance(node, ast.Import):
                names = [n.name for n in node.names if n.name.startswith("edgecr.")]
            for name in names:
                to = name.split(".")[1] if "." in name else ""
                if to in LEVEL and to != room:
                    yield file.relative_to(PACKAGE), room, to


def test_every_room_has_a_floor():
    rooms = {
        p.stem if p.is_file() else p.name
        for p in PACKAGE.iterdir()
        if p.suffix == ".py" or (p / "__init__.py").is_file()
    }
    assert rooms - {"__init__"} <= set(LEVEL)


def test_imports_never_run_upwards():
    upwards = [f"{file}: {room} -> {to}" for file, room, to in imports() if LEVEL[to] > LEVEL[room]]
    assert upwards == []


def test_methods_exporters_and_runners_never_import_one_another():
    assert [(f, a, b) for f, a, b in imports() if a in APART and b in APART] == []


def modules():
    """The modules of the package that are not ``__init__``, and those that each imports at any time."""
    files = {
        ".".join(("edgecr", *file.relative_to(PACKAGE).with_suffix("").parts)): file
        for file in PACKAGE.rglob("*.py")
        if file.name != "__init__.py"
    }
    found = {}
    for name, file in files.items():
        taken = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                taken |= {node.module} | {f"{node.module}.{each.name}" for each in node.names}
            elif isinstance(node, ast.Import):
                taken |= {each.name for each in node.names}
        found[name] = sorted(taken & files.keys())
    return found


def test_no_module_reaches_itself_by_way_of_others():
    """Not even by imports within functions: two modules that need one another are one."""
    try:
        tuple(TopologicalSorter(modules()).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_agent_imports_nothing_of_edgecr():
    from edgecr.core import builtin

    for file in sorted((builtin.folder("devices") / "agent").rglob("*.py")):
        assert "import edgecr." not in file.read_text()
        assert "from edgecr " not in file.read_text()
        assert "from edgecr." not in file.read_text()


HEAVY = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "albumentations", "sklearn", "cv2", "scipy")


def loaded_by(code):
    script = f"import sys\n{code}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return ast.literal_eval(done.stdout.strip().splitlines()[-1])


def test_help_imports_nothing_heavy():
    code = (
        "from edgecr.cli import app\nfrom typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0"
    )
    assert loaded_by(code) == []


@pytest.mark.parametrize(
    "module",
    [
        "edgecr.recipe",
        "edgecr.methods",
        "edgecr.models",
        "edgecr.training.options",
        "edgecr.training.losses",
        "edgecr.training.augmentations",
        "edgecr.data",
        "edgecr.exporters.base",
        "edgecr.stages.asked",
        "edgecr.stages.judge",
        "edgecr.runners.base",
        "edgecr.report.gates.judge",
        "edgecr.robustness.suites",
        "edgecr.tasks",
    ],
)
def test_declarations_import_nothing_heavy(module):
    assert loaded_by(f"import {module}") == []


def test_a_recipe_is_checked_before_torch_is_imported():
    assert loaded_by("from edgecr.recipe import load_recipe; load_recipe('quickstart')") == []
