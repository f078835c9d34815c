"""The agent uses of TensorRT's Python API what every version from 8.5 on has, and nothing else."""

from __future__ import annotations

import ast
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgecr.core import builtin
from tests.agent import tensorrt_bindings

KNOWN = json.loads(tensorrt_bindings.FILE.read_text())
VERSIONS = ("8.6.1", "10.3.0", "10.7.0", "10.16.1.11", "11.4.0.106")
SOURCE = builtin.folder("devices") / "agent" / "runtimes" / "tensorrt.py"
OWN = {"trt": {"Runtime", "Logger", "TensorIOMode", "__version__"}}


def test_the_lists_are_of_all_generations() -> None:
    assert set(KNOWN) == set(VERSIONS)
    assert "num_bindings" in KNOWN["8.6.1"]["ICudaEngine"]
    assert "num_bindings" not in KNOWN["11.4.0.106"]["ICudaEngine"]


def pretended(version: str, without: str = "") -> SimpleNamespace:
    kinds = {
        kind: SimpleNamespace(**{name: 0 for name in names if f"{kind}.{name}" != without})
        for kind, names in KNOWN[version].items()
    }
    return SimpleNamespace(__version__=version, **kinds)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_has_what_is_used(agent, version: str) -> None:
    adapter = agent("runtimes.tensorrt")
    assert adapter.lacking(pretended(version)) == []
    without = "IExecutionContext.set_input_shape"
    assert adapter.lacking(pretended(version, without)) == [without]


def test_nothing_is_used_that_is_not_listed(agent) -> None:
    """Every attribute of an object of TensorRT's in the source stands in the list that versions are held against."""
    listed = {name for names in agent("runtimes.tensorrt").NEEDS.values() for name in names}
    holders = {"engine", "context", "runtime", "Logger", "TensorIOMode"}
    used = set()
    tree = ast.parse(SOURCE.read_text())
    for node in ast.walk(next(one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == "TensorRt")):
        if isinstance(node, ast.Attribute):
            holder = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if holder in holders:
                used.add(node.attr)
            if holder == "trt":
                assert node.attr in OWN["trt"]
    assert {"execute_v2", "get_tensor_name", "INPUT", "deserialize_cuda_engine"} <= used
    assert used <= listed


@pytest.mark.parametrize(("version", "words"), [("8.4.1", "let trtexec answer here"), ("10.3.0", "Neither cuda")])
def test_what_cannot_answer_says_so(agent, monkeypatch, version: str, words: str) -> None:
    adapter = agent("runtimes.tensorrt")
    stub = pretended("10.3.0")
    stub.__version__ = version
    for name, module in {"tensorrt": stub, "cuda": None, "cuda.bindings": None, "cupy": None}.items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(agent("runtimes.base").RuntimeProblem, match=words):
        adapter.api() and adapter.device_memory()


def test_the_installed_bindings_have_what_is_used(tmp_path: Path) -> None:
    found = find_spec(tensorrt_bindings.LIBRARY)
    if found is None or found.origin is None:
        pytest.skip("the Python package tensorrt_bindings is not installed")
    told = tensorrt_bindings.read(Path(found.origin).parent.parent, tmp_path)
    assert told["lacking"] == []
