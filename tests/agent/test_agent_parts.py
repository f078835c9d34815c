from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgecr.core import builtin
from edgecr.runners.agent.archive import BOOT, agent_archive

SOURCES = sorted((builtin.folder("devices") / "agent").rglob("*.py"))
OLD_PYTHONS = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.12", "3.13")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: "-".join(path.with_suffix("").parts[-2:]))
def test_it_is_python_3_6(source: Path) -> None:
    ast.parse(source.read_text(), feature_version=(3, 6))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: "-".join(path.with_suffix("").parts[-2:]))
def test_it_imports_nothing_of_edgecr_and_no_runtime_at_the_top(source: Path) -> None:
    tree = ast.parse(source.read_text())
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level}
    assert not {name for name in names if name.split(".")[0] in {"edgecr", "numpy", "onnxruntime", "openvino"}}


def python(version: str) -> str | None:
    """An interpreter of that version on this machine, found the way users install them."""
    for path in [Path.home() / ".pyenv" / "versions", Path("/usr/bin"), Path("/opt")]:
        for found in sorted(path.glob(f"{version}.*/bin/python{version}")) or sorted(path.glob(f"python{version}")):
            return str(found)
    return shutil.which(f"python{version}")


@pytest.mark.parametrize("version", OLD_PYTHONS)
def test_it_starts_probes_and_leaves_on_that_python(version: str, tmp_path: Path) -> None:
    executable = python(version)
    if executable is None:
        pytest.skip(f"no Python {version} on this machine")
    archive = agent_archive()
    talk = b'{"size": %d, "env": {"TMPDIR": "%s"}}\n' % (len(archive), str(tmp_path).encode()) + archive
    talk += b'{"op": "probe"}\n{"op": "tool", "argv": ["rm", "-rf", "/"]}\n{"op": "bye"}\n'
    try:
        done = subprocess.Popen([executable, "-c", BOOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        done.stdin.write(talk)
        done.stdin.flush()  # stdin stays open: its end would end the agent before it has answered
        printed = done.stdout.read().decode()
    finally:
        done.stdin.close()
        done.stdout.close()
        done.wait(20)
    assert f'"python": "{version}.' in printed
    assert "is not a tool that the agent runs" in printed
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("version", OLD_PYTHONS)
def test_it_finds_its_runtimes_on_that_python(version: str, tmp_path: Path) -> None:
    executable = python(version)
    if executable is None:
        pytest.skip(f"no Python {version} on this machine")
    (tmp_path / "agent.pyz").write_bytes(agent_archive())
    code = "from edgecr_agent import runtimes; print(runtimes.names(), runtimes.find('openvino').__name__)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "agent.pyz")}
    done = subprocess.run([executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "['openvino', 'ort', 'tensorrt'] OpenVino", done.stderr


def receive(agent, folder: Path, content: bytes, *, checksum: str | None = None, name: str = "m.onnx"):
    digest = checksum or hashlib.sha256(content).hexdigest()
    upload = agent("inbox").Upload(str(folder), name, len(content), digest)
    if upload.left:
        upload.add(content)
    return upload.finish()


def test_a_file_arrives_whole(agent, tmp_path: Path) -> None:
    assert receive(agent, tmp_path, b"abc" * 1000) is None
    assert (tmp_path / "m.onnx").read_bytes() == b"abc" * 1000


def test_a_damaged_file_is_refused(agent, tmp_path: Path) -> None:
    assert "checksum mismatch" in receive(agent, tmp_path, b"abc", checksum="0" * 64)


def test_an_empty_file_and_one_in_a_folder_arrive(agent, tmp_path: Path) -> None:
    assert receive(agent, tmp_path, b"", name="empty") is None
    assert receive(agent, tmp_path, b"abc", name="a/b/m.data") is None
    assert (tmp_path / "empty").read_bytes() == b""
    assert (tmp_path / "a" / "b" / "m.data").read_bytes() == b"abc"


@pytest.mark.parametrize("name", ["..", ".", "", "/etc/x", "a/../../x", "a//b", "a/", "a\\b", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(agent, tmp_path: Path, name: str) -> None:
    with pytest.raises(agent("inbox").BadName):
        receive(agent, tmp_path, b"abc", name=name)
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_were_announced_are_refused(agent, tmp_path: Path) -> None:
    upload = agent("inbox").Upload(str(tmp_path), "m.onnx", 2, "0" * 64)
    with pytest.raises(ValueError, match="1 bytes too many"):
        upload.add(b"abc")


def test_a_host_that_leaves_in_the_middle(agent) -> None:
    with pytest.raises(EOFError):
        agent("inbox").block_of(io.BytesIO(b"abc"), 10)


@pytest.mark.parametrize("size", [-1, 1 << 40])
def test_a_block_of_no_sensible_size_is_refused_unread(agent, size: int) -> None:
    with pytest.raises(ValueError, match="at most"):
        agent("inbox").block_of(io.BytesIO(b"abc"), size)


def test_too_little_space_is_told_with_the_numbers(agent, tmp_path: Path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=19 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert receive(agent, tmp_path, b"abc").startswith("Only 19 MB free in ")
    assert not (tmp_path / "m.onnx").exists()


def test_a_disk_that_fills_while_writing(agent, tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    os.symlink("/dev/full", tmp_path / "m.onnx")
    assert "No space left" in receive(agent, tmp_path, b"abc")


@pytest.mark.parametrize("argv", [["sh", "-c", "true"], ["nvpmodel", "-m", "0"], ["jetson_clocks"], ["/bin/trtexec"]])
def test_only_listed_tools_with_harmless_arguments_run(agent, tmp_path: Path, argv: list[str]) -> None:
    tools = agent("tools")
    with pytest.raises(tools.NotAllowed):
        tools.checked(argv, str(tmp_path))


def test_a_tool_gets_files_of_the_work_folder_and_nothing_outside(agent, tmp_path: Path) -> None:
    tools = agent("tools")
    assert tools.expand("--onnx=@m.onnx", "/w") == "--onnx=/w/m.onnx"
    assert tools.expand("@../../etc/passwd", "/w") == "/w/passwd"
    assert tools.expand("user@host", "/w") == "user@host"


def test_a_tool_runs_and_its_files_come_back(agent, tmp_path: Path, monkeypatch) -> None:
    tool = tmp_path / "bin" / "trtexec"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho hello; echo '[]' > times.json; exit 3\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    lines: list[bytes] = []
    children = agent("children").Children()
    result = agent("tools").run(
        ["trtexec"], str(tmp_path), children, lines.append, lambda: False, ["times.json", "none.json"]
    )
    assert lines == [b"hello\n"]
    assert result == {"code": 3, "files": {"times.json": "[]\n", "none.json": None}}


def test_who_is_stopped_before_the_start_never_starts(agent, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "open('started', 'w')"]
    assert agent("children").Children().run(argv, str(tmp_path), print, lambda: True) < 0
    assert list(tmp_path.iterdir()) == []


def test_who_is_stopped_while_it_starts_is_killed(agent, tmp_path: Path) -> None:
    answers = iter([False, True])  # the cancel arrives when there is no process yet that it could kill
    code = agent("children").Children().run(["sleep", "300"], str(tmp_path), print, lambda: next(answers))
    assert code == -signal.SIGKILL


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int64"])
def test_the_input_is_what_it_always_was_without_five_copies_of_it(agent, dtype: str) -> None:
    values = agent("runtimes.base").sample([("x", [4, 3, 2, 2], dtype), ("y", [5], dtype)])
    random, scale = np.random.RandomState(0), 1 if "float" in dtype else 100
    for name, shape in (("x", (4, 3, 2, 2)), ("y", (5,))):
        assert values[name].dtype == dtype
        assert np.array_equal(values[name], (random.rand(*shape) * scale).astype(dtype))


def test_facts_come_from_proc_and_sys_and_absent_ones_are_none(agent, tmp_path: Path) -> None:
    probe = agent("probe")
    facts = probe.facts(str(tmp_path))
    assert facts["cores"] >= facts["usable_cores"] >= 1
    assert facts["memory"]["total_kb"] > 0
    assert agent("tree").read(str(tmp_path / "none")) is None
    assert agent("tree").number(str(tmp_path / "none")) is None


def test_a_program_that_uses_a_processor_is_seen_while_it_does(agent, monkeypatch) -> None:
    processor = agent("processor")
    every = processor.ticks
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinning:
        own = {os.getppid(), spinning.pid}  # a machine that is busy elsewhere must not hide it
        monkeypatch.setattr(processor, "ticks", lambda: {key: used for key, used in every().items() if key[0] in own})
        time.sleep(0.3)
        seen = processor.watched()
        spinning.kill()
    assert seen["busy"] > 0.25
    assert spinning.pid in [one["pid"] for one in seen["busiest"]]


def test_counters_are_none_where_the_kernel_is_silent(agent, tmp_path: Path) -> None:
    clock = agent("clock")
    assert clock.schedule(str(tmp_path / "none")) == (None, None)
    assert clock.steal(str(tmp_path / "none")) is None
    assert clock.difference(None, 3) is None


@pytest.mark.parametrize(
    ("shape", "expected"), [(["N", 3, 8, 8], [4, 3, 8, 8]), ([4, 3], [4, 3]), (["N", "C"], [4, 1])]
)
def test_the_shape_for_a_batch(agent, shape, expected) -> None:
    assert agent("runtimes.base").batched("x", shape, 4) == expected


def test_nodes_of_a_profile_are_told_with_their_times_in_order(agent) -> None:
    def event(name: str, dur: int, index: int = 0, cat: str = "Node") -> dict:
        return {"cat": cat, "name": name, "dur": dur, "args": {"op_name": "Conv", "node_index": index}}

    events = [event("session", 9, cat="Session"), event("b_kernel_time", 5), event("b_fence_before", 1)]
    events += [
        event("a_kernel_time", 7, 1),
        event("b_kernel_time", 6),
        {"cat": "Node", "name": "x_kernel_time", "dur": 1},
    ]
    assert agent("runtimes.ort").node_times(events) == [
        {"name": "b", "op": "Conv", "us": [5, 6]},
        {"name": "a", "op": "Conv", "us": [7]},
    ]


def test_a_fixed_batch_says_what_to_do(agent) -> None:
    runtimes = agent("runtimes.base")
    with pytest.raises(runtimes.RuntimeProblem, match=r"fixed batch 1, but 4 .* dynamic batch"):
        runtimes.batched("x", [1, 3], 4)


def test_an_opset_that_is_too_new_is_explained(agent) -> None:
    text = (
        "Opset 22 is under development and support for this is limited. The operator schemas may change. "
        "Current official support for domain ai.onnx is till opset 15."
    )
    assert "has opset 22; this board's onnxruntime 1.10.0 loads up to 15" in agent("runtimes.ort").explain_load(
        text, "1.10.0"
    )


def test_a_file_format_that_is_too_new_is_explained(agent) -> None:
    text = "FAIL : Unsupported model IR version: 10, max supported IR version: 8"
    assert "IR version 10; this board's onnxruntime 1.10.0 reads up to 8" in agent("runtimes.ort").explain_load(
        text, "1.10.0"
    )


def test_a_runtime_is_the_file_of_its_name(agent) -> None:
    runtimes = agent("runtimes")
    assert runtimes.names() == ["openvino", "ort", "tensorrt"]
    assert runtimes.find("ort") is agent("runtimes.ort").Ort
    for name in ("base", "tflite", "..worker", "ort.Ort"):
        with pytest.raises(ValueError, match=r"no runtime .* only openvino, ort, tensorrt"):
            runtimes.find(name)


@pytest.mark.parametrize(
    ("machine", "kinds", "refused"),
    [
        ("aarch64", ("Parameter", "FakeQuantize"), True),
        ("aarch64", ("Parameter", "Convolution"), False),
        ("x86_64", ("Parameter", "FakeQuantize"), False),
    ],
)
def test_openvino_has_no_integers_on_arm(
    agent, monkeypatch, machine: str, kinds: tuple[str, ...], refused: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    operators = [SimpleNamespace(get_type_name=lambda kind=kind: kind) for kind in kinds]
    model = SimpleNamespace(get_ops=lambda: operators)
    expected = (
        pytest.raises(agent("runtimes.base").RuntimeProblem, match="8-bit integers")
        if refused
        else contextlib.nullcontext()
    )
    with expected:
        agent("runtimes.openvino").refuse_integers_on_arm(model)


def test_only_the_runtime_that_is_asked_for_is_imported(agent) -> None:
    archive = agent("runtimes").__path__[0].partition("agent.pyz")[0] + "agent.pyz"
    code = (
        f"import sys; sys.path.insert(0, {archive!r}); from edgecr_agent import runtimes; runtimes.find('ort')\n"
        "assert 'edgecr_agent.runtimes.ort' in sys.modules and 'edgecr_agent.runtimes.openvino' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_versions_of_packages_that_the_host_names_are_told(agent, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "abacus-1.2.dist-info").mkdir()
    (tmp_path / "numpy-9.9.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert agent("probe").libraries(["abacus", "*"]) == {"numpy": "9.9", "abacus": "1.2"}


def test_how_a_measuring_process_died(agent) -> None:
    told = agent("supervisor").how_it_died
    assert "out of memory" in told(-9)
    assert "signal 11" in told(-11)
    assert "code 4" in told(4)
