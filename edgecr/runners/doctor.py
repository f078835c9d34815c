"""An examination of a board, step by step: each finding is fine, a doubt, or a failure with its remedy."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from edgecr import __version__
from edgecr.core.errors import DeviceFailed, RequestError
from edgecr.core.options import Options
from edgecr.core.progress import Monitor
from edgecr.runners import fitness
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.agent.runner import AgentRunner, session_for
from edgecr.runners.base import Arm, MeasurePlan, runner_for
from edgecr.runners.board_python import install_remedy, is_old, packages_of
from edgecr.runners.device import Device
from edgecr.runners.fitness.expectations import locked, mismatches
from edgecr.runners.fitness.jetson import release_words
from edgecr.runners.measurement.record import Alone
from edgecr.runners.measurement.summary import megabytes
from edgecr.runners.tensorrt.build_file import write_plain

State = Literal["ok", "warn", "fail"]
BRIEF = {"throughput": {"seconds": 0.2, "streams": [1]}}
OPSET, IR_VERSION = 13, 7
"""A file that the oldest supported runtimes read."""


class Finding(Options):
    """One line of an examination."""

    check: str
    state: State
    text: str
    remedy: str = ""


class Examination(Options):
    """Everything that an examination found; it is a file that the owner of a board can send."""

    schema_version: Literal[1] = 1
    device: dict[str, Any]
    """The board's declaration without its transport: an address is nobody else's business."""
    edgecr: str = __version__
    findings: tuple[Finding, ...] = ()
    facts: dict[str, Any] = Field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """True if something does not work."""
        return any(one.state == "fail" for one in self.findings)


def units_of(device: Device) -> list[Device]:
    """The device itself, or each of its units."""
    return [device.unit(name) for name in device.units] or [device]


def probe(device: Device, monitor: Monitor | None = None) -> dict[str, Any]:
    """The facts of a device, which is left as it is."""
    with _agent_runner(device).connect("telling its facts", monitor, shared=True) as agent:
        return fitness.ask(agent)


def examine(device: Device, monitor: Monitor | None = None) -> Examination:
    """Walks through everything that a measurement needs, and goes on after what fails."""
    runner, facts, found = _agent_runner(device), dict[str, Any](), list[Finding]()
    try:
        with runner.connect("being examined", monitor) as agent:
            found += _reached(device, agent)
            facts = fitness.ask(agent)
            found += [*_system(facts), *_packages(device, facts, str(agent.hello["python"]))]
            found += _inferences(device, agent, facts, monitor or Monitor())
            found += [*_state(device, facts), *_power(device, facts), *_memory(facts)]
    except DeviceFailed as error:
        found.append(Finding(check="connection", state="fail", text=str(error)))
    declared = {key: value for key, value in device.plain().items() if key != "transport"}
    return Examination(device=declared, findings=tuple(found), facts=facts)


def _agent_runner(device: Device) -> AgentRunner:
    runner = runner_for(device)
    if not isinstance(runner, AgentRunner):
        raise RequestError(f"Device {device.name!r} is not reached through EdgeCR's agent, so it cannot be examined.")
    return runner


def _reached(device: Device, agent: Connection) -> Iterator[Finding]:
    python = str(agent.hello["python"])
    yield Finding(check="connection", state="ok", text=f"{device.name} answers ({device.transport.kind})")
    if is_old(python) and (packages := packages_of(device)):
        text = f"{python}: its pip is too old for the wheels of runtimes"
        yield Finding(check="python", state="warn", text=text, remedy=install_remedy(device, packages, python))
    else:
        yield Finding(check="python", state="ok", text=python)


def _system(facts: fitness.Facts) -> Iterator[Finding]:
    names = (facts.get("model") or facts.get("cpu"), facts.get("os"), release_words(facts))
    yield Finding(check="board", state="ok", text="; ".join(filter(None, names)) or "it does not tell its name")
    versions = [f"{name} {facts[key]}" for name, key in (("TensorRT", "tensorrt"), ("CUDA", "cuda")) if facts.get(key)]
    if versions:
        yield Finding(check="libraries", state="ok", text=", ".join(versions))


def _packages(device: Device, facts: fitness.Facts, python: str = "") -> Iterator[Finding]:
    """The packages as their installers left them; that they work is shown by an inference."""
    libraries = facts["libraries"]
    for name, options in device.runtimes.items():
        if options.by_tool:
            continue
        found = [f"{package} {libraries[package]}" for package in options.packages if package in libraries]
        if found:
            yield Finding(check=f"package of {name}", state="ok", text=", ".join(found))
        elif options.packages:
            yield Finding(
                check=f"package of {name}",
                state="warn",
                text=f"none of {', '.join(options.packages)} is installed for this Python",
                remedy=install_remedy(device, options.packages[:1], python),
            )


def _inferences(device: Device, agent: Connection, facts: dict[str, Any], monitor: Monitor) -> Iterator[Finding]:
    """A tiny model really run in each runtime: a library that is there may still not work, or not use what it lists."""
    brief = device.model_copy(update={"protocol": device.protocol.parse(BRIEF)})
    with tempfile.TemporaryDirectory() as folder:
        path = write_tiny(Path(folder) / "tiny.onnx")
        write_plain(path)
        for name in device.runtimes:
            check = f"inference in {name}"
            try:
                session = session_for(brief, MeasurePlan((Arm("a tiny model", path, name),)), monitor)
                session.facts = facts
                session.send_files(agent)
                session.measure_alone(agent, 0)
            except (DeviceFailed, RequestError) as error:
                yield Finding(check=check, state="fail", text=str(error))
                continue
            yield from _ran(check, session.alone[-1])


def _ran(check: str, alone: Alone) -> Iterator[Finding]:
    info, rate = alone.start.info, alone.rates[0] if alone.rates else None
    told = [f"{key} {value}" for key, value in info.items() if key != "runtime" and isinstance(value, str | int | list)]
    yield Finding(check=check, state="ok", text=", ".join([str(info.get("runtime", "it ran")), *told]))
    if rate and rate.wait_ns is None and not rate.program:
        yield Finding(
            check="kernel counters",
            state="warn",
            text="the kernel does not tell how long threads wait (schedstat): no absolute latency will be reported",
            remedy="Measure outside of a container, or with a kernel that has CONFIG_SCHEDSTATS.",
        )


def _state(device: Device, facts: fitness.Facts) -> Iterator[Finding]:
    wrong, doubts = mismatches(device, facts), fitness.before(device, facts)
    yield from (Finding(check="expected state", state="fail", text=text) for text in wrong)
    yield from (Finding(check="state", state="warn", text=text) for text in doubts)
    mode, fixed = facts.get("power_mode"), locked(facts)
    known = {True: "locked", False: "they follow the load", None: "nothing tells whether they are locked"}[fixed]
    named = f"; power mode {mode['name']}" if mode else ""
    yield Finding(check="clocks", state="ok" if fixed is not False else "warn", text=known + named)


def _power(device: Device, facts: fitness.Facts) -> Iterator[Finding]:
    sensors = facts.get("power") or {}
    source, rails = sensors.get("source"), ", ".join(sensors.get("rails") or ())
    if source:
        add = "" if device.power else f"Add 'power: {{source: {source}}}' to {device.declared_in}."
        yield Finding(check="power sensors", state="ok", text=f"{source}: {rails or 'rails not known yet'}", remedy=add)
    else:
        text = sensors.get("missing") or "the board tells of none"
        drop = f"Remove 'power:' from {device.declared_in}, or measure without energy." if device.power else ""
        yield Finding(check="power sensors", state="warn", text=f"{text}; no energy", remedy=drop)


def _memory(facts: fitness.Facts) -> Iterator[Finding]:
    memory = facts["memory"]
    parts = [("free", "available_kb", "total_kb"), ("in one piece (CMA) free", "cma_free_kb", "cma_total_kb")]
    found = [
        f"{megabytes(memory[free]):,.0f} of {megabytes(memory[total]):,.0f} MB {words}"
        for words, free, total in parts
        if memory.get(free) is not None and memory.get(total)
    ]
    if found:
        yield Finding(check="memory", state="ok", text=", ".join(found))


def write_tiny(path: Path) -> Path:
    """A convolution and a pooling, in a form that the oldest runtimes read."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.linspace(-1, 1, 8 * 27, dtype=np.float32).reshape(8, 3, 3, 3)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 3, 16, 16]), ("y", [1, 8, 1, 1]))
    ]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    imports = [helper.make_opsetid("", OPSET)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION), path)
    return path
