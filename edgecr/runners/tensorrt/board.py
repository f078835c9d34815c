"""One board's trtexec, reached through the agent: which it is, and runs of it with their failures in words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from edgecr.core.errors import DeviceFailed
from edgecr.core.files import fingerprint
from edgecr.core.options import Options
from edgecr.runners.agent.events import Event, cleaned, read_as, shown
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.measurement.record import Program
from edgecr.runners.runtimes.tensorrt import TensorRtOptions
from edgecr.runners.tensorrt.commands import Places, TrtVersion, probe_flags, refuse_unknown, trial_flags
from edgecr.runners.tensorrt.output import MOST_FIGURE, TrtLog, read_log

PATIENCE_S = 120.0
"""Beyond the time that is measured: starting CUDA, and reading a large engine from a slow card."""
KEPT_LOG = 20_000
"""Characters of a log that a measurement keeps."""
KILLED = -9
DONE = "Timing trace has"
"""The words of the first line after the inferences, which every version prints."""
NO_MEMORY = re.compile(r"out of memory|OutOfMemory|std::bad_alloc|NvMapMemAlloc|Cuda Runtime \(2\)", re.I)
OTHER_ENGINE = re.compile(r"deserializ|incompatible|different (?:version|model|device)|version tag", re.I)
"""trtexec's words for an engine that was built for something else than it runs on."""
NO_ENGINE = re.compile(r"parse|opset|unsupported|ModelImporter|onnx", re.I)

Bytes = Annotated[int, Field(ge=0, lt=2**63)]
Running = Callable[[float, str], None]
"""Told now and then, while trtexec runs: seconds so far, and the last line that it printed."""


class _Ran(Options):
    """The end of one run, as the agent tells it."""

    model_config = ConfigDict(extra="ignore")

    code: int
    late: bool = False
    seconds: Annotated[float, Field(ge=0)]
    marks: dict[str, Annotated[int, Field(ge=0, lt=2**63)]] = Field(default_factory=dict)
    log: str
    log_sha256: str
    files: dict[str, str | None] = Field(default_factory=dict)
    program: Program | None = None
    memory: dict[str, int] = Field(default_factory=dict)


class _Built(_Ran):
    """The end of a build, or an engine that was built before."""

    cached: bool
    notes: tuple[str, ...] = ()
    size: Bytes = 0
    sha256: str = ""


@dataclass(frozen=True)
class TrtRun:
    """One run of trtexec that passed."""

    log: TrtLog
    told_ns: int | None
    """The moment, on the board's clock, when it told that its inferences were done."""
    files: dict[str, str | None]
    program: Program
    events: tuple[Event, ...] = ()
    """The agent's events meanwhile: its readings, where it was asked for some."""


@dataclass(frozen=True)
class TrtBuild:
    """An engine in the agent's folder."""

    log: TrtLog
    text: str
    log_sha256: str
    seconds: float
    size: int
    sha256: str
    cached: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TrtBoard:
    """The part of a board that an engine depends on."""

    version: TrtVersion
    gpu: str
    capability: str
    model: str
    l4t: str
    power_mode: str

    def key(self, **further: Any) -> str:
        """One hash of the board's TensorRT and processor, and of what else decides."""
        own = {"tensorrt": str(self.version), "gpu": self.gpu, "capability": self.capability, "l4t": self.l4t}
        return fingerprint(own | {"model of the board": self.model} | further)


class BoardTrtexec:
    """Runs a board's trtexec."""

    def __init__(self, agent: Connection, options: TensorRtOptions, running: Running) -> None:
        self.agent, self.options, self.running = agent, options, running

    def probe(self, facts: dict[str, Any]) -> TrtBoard:
        """The board as its trtexec sees it; it is asked to load an engine that is not there."""
        ran = self._ask(_Ran, "trtexec", probe_flags(), (), PATIENCE_S)
        log = read_log(ran.log)
        if log.version is None:
            raise DeviceFailed(f"trtexec on the board does not tell its version ({_end_of(ran.log)}).")
        refuse_unknown(log.version, self.options)
        if log.gpu is None or log.capability is None:
            raise DeviceFailed(f"trtexec on the board finds no processor for TensorRT ({_end_of(ran.log)}).")
        told = {name: found if isinstance(found := facts.get(name), str) else "" for name in ("model", "l4t")}
        return TrtBoard(log.version, log.gpu, log.capability, **told, power_mode=self._power_mode())

    def build(
        self, board: TrtBoard, flags: Sequence[str], places: Places, model_sha256: str, *, anew: bool = False
    ) -> TrtBuild:
        """Builds an engine, or takes the one that this very board built of the same file before."""
        built = self._ask(
            _Built,
            "engine",
            flags,
            (),
            self.options.build_timeout_s,
            engine=places.of("model.engine"),
            timing_cache=places.of("timing.cache"),
            key=board.key(model=model_sha256, flags=[flag.replace(places.folder, "") for flag in flags]),
            timing=board.key(power_mode=board.power_mode, dla=self.options.dla),
            cache=self.options.cache,
            anew=anew,
            budget_mb=self.options.cache_mb,
        )
        log = read_log(built.log)
        if built.late:
            raise DeviceFailed(
                f"The engine was not built within {self.options.build_timeout_s:g} s. Raise "
                "runtimes.tensorrt.build_timeout_s."
            )
        _raise_failure("building the engine", built, log, self.options)
        if not built.size:
            raise DeviceFailed("trtexec built an engine, as it says, but wrote none.")
        text = shown(built.log[-KEPT_LOG:], KEPT_LOG)
        return TrtBuild(log, text, built.log_sha256, built.seconds, built.size, built.sha256, built.cached, built.notes)

    def loads(self, board: TrtBoard, places: Places, shapes: str | None, label: str) -> bool:
        """True for an engine that the board's TensorRT still takes; drivers may change while versions stay."""
        try:
            self.run(
                f"loading the engine of {label}", trial_flags(board.version, self.options, places, shapes), (), 0.0
            )
        except DeviceFailed as error:
            if OTHER_ENGINE.search(str(error)):
                return False
            raise
        return True

    def run(
        self,
        doing: str,
        flags: Sequence[str],
        fetch: Sequence[str],
        seconds: float,
        watch: Mapping[str, Any] | None = None,
    ) -> TrtRun:
        """One run that must pass; ``seconds`` are those that it measures for, ``watch`` the readings beside it."""
        events: list[Event] = []
        ran = self._ask(_Ran, "trtexec", flags, fetch, seconds + PATIENCE_S, events, marks=[DONE], watch=watch)
        log = read_log(ran.log)
        if ran.late:
            raise DeviceFailed(f"trtexec did not end while {doing}: it was stopped after {ran.seconds:.0f} s.")
        _raise_failure(doing, ran, log, self.options)
        if ran.program is None:
            raise DeviceFailed("The agent ran trtexec and did not tell how long it took.")
        return TrtRun(log, ran.marks.get(DONE), ran.files, ran.program, tuple(events[:-1]))

    def _ask(
        self,
        kind: Any,
        op: str,
        flags: Sequence[str],
        fetch: Sequence[str],
        timeout_s: float,
        events: list[Event] | None = None,
        **fields: Any,
    ) -> Any:
        """The end of a request as data; all that came before it is added to ``events``."""
        request = self.agent.request(
            op, tool=self.options.tool, argv=list(flags), fetch=list(fetch), timeout_s=timeout_s, **fields
        )
        last: Event = {}
        for last in request:
            if events is not None:
                events.append(last)
            if last["event"] == "running":
                self._tell(last)
        files = last.get("files") or {}
        values = cleaned({name: value for name, value in last.items() if name not in ("log", "files", "op")})
        return read_as(kind, values | {"log": last.get("log"), "files": files})

    def _tell(self, event: Event) -> None:
        seconds, text = event.get("seconds"), event.get("text")
        if isinstance(seconds, int | float) and 0 <= seconds < MOST_FIGURE:
            self.running(float(seconds), shown(text, 120) if isinstance(text, str) else "")

    def _power_mode(self) -> str:
        """The mode that nvpmodel tells; boards without it have none."""
        lines: list[str] = []
        with contextlib.suppress(DeviceFailed):
            for event in self.agent.request("tool", argv=["nvpmodel", "-q"], fetch=[]):
                if event["event"] == "line" and isinstance(event.get("text"), str):
                    lines.append(shown(event["text"], 100))
        return " ".join(line for line in lines[-4:] if line)


def _raise_failure(doing: str, ran: _Ran, log: TrtLog, options: TensorRtOptions) -> None:
    """Raises for a run that did not pass, in words that say what to do."""
    if ran.code == 0 and log.passed:
        return
    said = " | ".join(log.errors[-3:]) or _end_of(ran.log)
    unknown = re.search(r"Unknown option: (\S+)", ran.log)
    if unknown:
        raise DeviceFailed(
            f"trtexec {log.version} has no {shown(unknown.group(1), 60)}: what it can do depends on its version, and "
            "EdgeCR took it for one that has. Export the model for the JetPack of the board, and report this."
        )
    if (log.passed is None and ran.code == KILLED) or NO_MEMORY.search(ran.log):
        raise DeviceFailed(_no_memory(doing, ran, options))
    if log.passed is None and ran.code != 0:
        raise DeviceFailed(f"trtexec crashed while {doing} (code {ran.code}): {said}.")
    if NO_ENGINE.search(said):
        raise DeviceFailed(
            f"TensorRT {log.version} on the board cannot take the file: {said}. Export it for the JetPack of the "
            "board (edgecr targets check TARGET FILE says what a version takes)."
        )
    raise DeviceFailed(f"trtexec failed while {doing} (code {ran.code}): {said}.")


def _no_memory(doing: str, ran: _Ran, options: TensorRtOptions) -> str:
    workspace = f"now {options.workspace_mb}" if options.workspace_mb else "now as the exported file asks"
    told = ", ".join(f"{name} {kilobytes >> 10} MB" for name, kilobytes in ran.memory.items())
    return (
        f"The board ran out of memory while {doing}. Lower runtimes.tensorrt.workspace_mb ({workspace}), add swap, "
        f"stop the desktop (sudo systemctl isolate multi-user.target).{f' Memory then: {told}.' if told else ''}"
    )


def _end_of(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return shown(" | ".join(lines[-3:]), 400) or "it said nothing"
