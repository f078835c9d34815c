"""The lines that the agent gives for a board whose runtime is missing, broken, or not for its GPU."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from edgecr.runners import board_python
from tests.agent.boards import ORIN_NANO, board


@pytest.mark.parametrize(
    ("version", "line"),
    [
        (
            (3, 6),
            'python3 -m pip install "pip==21.3.1" && '
            'python3 -m pip install "onnxruntime==1.10.0" "numpy==1.19.5" "protobuf==3.19.6"',
        ),
        ((3, 8), 'python3 -m pip install "onnxruntime==1.19.2" "numpy==1.24.4"'),
        ((3, 12), "python3 -m pip install onnxruntime numpy"),
    ],
)
def test_a_runtime_that_is_missing_comes_with_the_line_for_that_python(agent, monkeypatch, version, line) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for module in ("runtimes.base", "runtimes.ort"):
        monkeypatch.setattr(agent(module), "sys", SimpleNamespace(version_info=version, executable="python3"))
    with pytest.raises(agent("runtimes.base").RuntimeProblem) as told:
        agent("runtimes.ort").Ort.import_library()
    assert str(told.value).startswith("onnxruntime cannot be imported on the board (")
    assert str(told.value).endswith(f"Install it there: {line}")


def test_a_runtime_that_is_broken_says_how(agent, monkeypatch, tmp_path) -> None:
    (tmp_path / "broken_runtime.py").write_text("raise OSError('libcudart.so.12: no such file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(agent("runtimes.base").RuntimeProblem, match=r"on the board \(libcudart.so.12: no such file\)"):
        agent("runtimes.base").import_or_explain("broken_runtime", "it")


def test_agent_and_host_name_the_same_versions(agent) -> None:
    pinned = {python: " ".join(f'"{one}"' for one in wanted) for python, wanted in board_python.PINNED.items()}
    assert pinned == agent("runtimes.ort").PINNED
    assert agent("runtimes.base").OLD_PIP == board_python.OLD_PIP


class Onnxruntime:
    """A build that lists a provider, or that falls back from it when a model is loaded."""

    __version__ = "1.23.2"
    InferenceSession = staticmethod(lambda *_, **__: SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"]))

    def __init__(self, *providers: str) -> None:
        self.get_available_providers = lambda: list(providers)

    class SessionOptions:
        def add_session_config_entry(self, key: str, value: str) -> None:
            pass


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (["CPUExecutionProvider"], "has no CUDAExecutionProvider, only CPUExecutionProvider"),
        (["CUDAExecutionProvider"], "fell back to CPUExecutionProvider instead of CUDAExecutionProvider"),
    ],
)
@pytest.mark.parametrize("release", ["36.4.3", "35.4.1", None])
def test_a_gpu_that_is_not_used_is_a_failure_that_names_the_index_of_jetpack_6(
    agent, monkeypatch, listed, said: str, release
) -> None:
    module = agent("runtimes.ort")
    monkeypatch.setitem(sys.modules, "onnxruntime", Onnxruntime(*listed))
    monkeypatch.setattr(module.jetson, "release", lambda: release)
    config = {"providers": ["CUDAExecutionProvider"], "threads": 1, "spin": False}
    with pytest.raises(agent("runtimes.base").RuntimeProblem, match=said) as told:
        module.Ort("m.onnx", config, 1)
    index = "-m pip install onnxruntime-gpu --index-url https://pypi.jetson-ai-lab.io/jp6/cu126"
    assert (index in str(told.value)) == (release == "36.4.3")


def test_the_release_of_a_board_is_that_of_its_file(agent, tmp_path) -> None:
    assert agent("jetson").release(board(tmp_path, ORIN_NANO)) == "36.4.3"
    assert agent("jetson").release(str(tmp_path / "none")) is None
