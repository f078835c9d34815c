"""trtexec's text and files as data; both come from a board, so they are checked, and cut off where they are long."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edgecr.core.errors import DeviceFailed
from edgecr.runners.agent.events import shown
from edgecr.runners.tensorrt.commands import TrtVersion

MOST_REMARKS = 20
MOST_MS = 1e9
LEAST_FIGURE, MOST_FIGURE = 1e-6, 1e6
Milliseconds = Annotated[float, Field(ge=0, le=MOST_MS, allow_inf_nan=False)]
_BANNER = re.compile(r"&&&& (RUNNING|PASSED|FAILED) TensorRT\.trtexec \[TensorRT v(\d{4,8})\](?: \[b(\d{1,9})\])?")
_LEVEL = re.compile(r"(?:\[[^\]]{0,40}\] )?\[([VIWEF])\] ?(.*)")
_FIGURES: Mapping[str, re.Pattern[str]] = {
    name: re.compile(text)
    for name, text in {
        "build_s": r"Engine built in ([\d.eE+-]+) sec",
        "load_s": r"Engine (?:deserialized|loaded) in ([\d.eE+-]+) sec",
        "engine_mib": r"(?:Created|Loaded) engine with size: ([\d.eE+-]+) MiB",
        "device_mib": r"Created execution context with device memory size: ([\d.eE+-]+) MiB",
        "wall_s": r"Total Host Walltime: ([\d.eE+-]+) s",
        "trace_s": r"Timing trace has \d+ queries over ([\d.eE+-]+) s",
    }.items()
}
_WORDS: Mapping[str, re.Pattern[str]] = {
    "gpu": re.compile(r"^Selected Device: (.{1,100})"),
    "capability": re.compile(r"^Compute Capability: (\d{1,3}\.\d{1,3})"),
}
UNSTABLE = re.compile(r"GPU compute time is unstable, with coefficient of variance = ([\d.eE+-]+)%")


@dataclass(frozen=True)
class TrtLog:
    """The figures and words that trtexec printed; one that it did not print is None."""

    version: TrtVersion | None = None
    build: str = ""
    passed: bool | None = None
    """Its own verdict; None when it ended without one, because it was killed or crashed."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """By name: build_s, load_s, engine_mib, device_mib, wall_s, trace_s."""
    gpu: str | None = None
    capability: str | None = None
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def unstable(self) -> float | None:
        """The coefficient of variation (percent) that trtexec warns of."""
        found = next((match for text in self.warnings if (match := UNSTABLE.search(text))), None)
        return _number(found.group(1)) if found else None


def read_log(text: str) -> TrtLog:
    """The log of one run, whatever it holds."""
    version, build, passed = None, "", None
    figures, words = dict[str, float](), dict[str, str]()
    by_level: dict[str, list[str]] = {"W": [], "E": [], "F": []}
    for line in text.splitlines():
        if banner := _BANNER.match(line):
            version, build = TrtVersion.of(banner.group(2)), banner.group(3) or build
            passed = passed if banner.group(1) == "RUNNING" else banner.group(1) == "PASSED"
            continue
        level = _LEVEL.match(line)
        kind, said = (level.group(1), level.group(2)) if level else ("", line)
        if kind in by_level and len(by_level[kind]) < MOST_REMARKS:
            by_level[kind].append(shown(said.strip(), 500))
        _collect(said, figures, words)
    return TrtLog(
        version=version,
        build=build,
        passed=passed,
        figures=figures,
        gpu=words.get("gpu"),
        capability=words.get("capability"),
        warnings=tuple(by_level["W"]),
        errors=tuple(by_level["F"] + by_level["E"]),
    )


def _collect(said: str, figures: dict[str, float], words: dict[str, str]) -> None:
    """Adds the figures and words of one line; the last counts: an engine is read before it is deserialized."""
    for name, pattern in _FIGURES.items():
        if (found := pattern.search(said)) and (value := _number(found.group(1))) is not None:
            figures[name] = value
    for name, pattern in _WORDS.items():
        if found := pattern.match(said):
            words[name] = shown(found.group(1).strip(), 100)


def _number(digits: str) -> float | None:
    """A figure of seconds, MiB or percent; None for one that none of them can be, as if it was not told."""
    try:
        value = float(digits)
    except ValueError:
        return None
    return value if value == 0 or LEAST_FIGURE <= value <= MOST_FIGURE else None


class _Item(BaseModel):
    """One entry of a file of trtexec's; versions add keys."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, populate_by_name=True)


class Query(_Item):
    """One inference in ``--exportTimes``."""

    start_ms: Milliseconds = Field(default=MOST_MS, alias="startComputeMs")
    """Since the first of all, warm-up included."""
    compute_ms: Milliseconds = Field(alias="computeMs")


class LayerSpan(_Item):
    """One layer in ``--exportProfile``."""

    name: str
    average_ms: Milliseconds = Field(alias="averageMs")
    median_ms: Milliseconds | None = Field(default=None, alias="medianMs")
    """Known since version 8.5."""


class AnsweredTensor(_Item):
    """One output in ``--exportOutput``."""

    name: str
    dimensions: Annotated[str, Field(pattern=r"^\d{1,9}(x\d{1,9}){0,15}$|^scalar$")]
    values: list[float]


@dataclass(frozen=True)
class LayerFacts:
    """One layer in ``--exportLayerInfo``: its kind, and the number format that it reads, as far as told."""

    name: str
    kind: str = ""
    precision: str = ""


_QUERIES = TypeAdapter(list[Query])
_ANSWERS = TypeAdapter(list[AnsweredTensor])
_SPAN = TypeAdapter(LayerSpan)


def compute_times(text: str | None, warmup_ms: float = 0) -> list[int]:
    """Nanoseconds of each inference on the GPU, from ``--exportTimes``.

    Versions before 8.5 write the warm-up as well: what began in its time is left out, as trtexec itself does.
    """
    queries = [one for one in _checked(_QUERIES, "times", text) if one.start_ms >= warmup_ms]
    if not queries:
        raise _unreadable("times", "it holds no inference after the warm-up")
    return [round(one.compute_ms * 1e6) for one in queries]


def layer_spans(text: str | None) -> list[LayerSpan]:
    """The layers with their times, from ``--exportProfile``, whose first entry is a count."""
    entries = _parsed("layer times", text)
    if not isinstance(entries, list):
        raise _unreadable("layer times", "it is no list")
    try:
        return [_SPAN.validate_json(json.dumps(one)) for one in entries if not _is_count(one)]
    except (ValidationError, ValueError, RecursionError) as error:
        raise _unreadable("layer times", _first(error)) from error


def _is_count(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.keys() == {"count"}


def answered(text: str | None) -> list[AnsweredTensor]:
    """The outputs of an inference, from ``--exportOutput``."""
    return _checked(_ANSWERS, "outputs", text)


def layer_facts(text: str | None) -> dict[str, LayerFacts]:
    """Kind and precision of layers by name, from ``--exportLayerInfo`` in the forms of 8.2 to 11; empty without it."""
    if not text or not text.strip():
        return {}
    found = _parsed("layer facts", text)
    layers = found.get("Layers") if isinstance(found, dict) else found
    told = [_facts(one) for one in layers] if isinstance(layers, list) else []
    return {one.name: one for one in told if one is not None}


def _facts(layer: Any) -> LayerFacts | None:
    """One layer; engines that were not built to be described in detail have only its name there."""
    if isinstance(layer, str):
        return LayerFacts(shown(layer, 300))
    if not isinstance(layer, dict) or not isinstance(layer.get("Name"), str):
        return None
    ends = [*_listed(layer.get("Inputs")), *_listed(layer.get("Outputs"))]
    kind = layer.get("LayerType")
    return LayerFacts(
        shown(layer["Name"], 300),
        shown(kind, 80) if isinstance(kind, str) else "",
        next(filter(None, map(_format, ends)), ""),
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


_FORMATS = (
    ("fp8", ("fp8",)),
    ("int8", ("int8",)),
    ("int4", ("int4",)),
    ("fp4", ("fp4",)),
    ("bf16", ("bf16", "bfloat16")),
    ("fp16", ("fp16", "half", "float16")),
    ("fp32", ("fp32", "float32", "float")),
    ("int32", ("int32",)),
    ("int64", ("int64",)),
    ("uint8", ("uint8",)),
    ("bool", ("bool",)),
)


def _format(tensor: Any) -> str:
    """The number format of a tensor: "Format/Datatype" in words until version 10, two keys from version 11 on."""
    if not isinstance(tensor, dict):
        return ""
    told = next((tensor[key] for key in _TYPE_KEYS if isinstance(tensor.get(key), str)), "").lower()
    words = set(re.findall(r"[a-z]+\d*", told))
    return next((name for name, spellings in _FORMATS if words.intersection(spellings)), "")


_TYPE_KEYS = ("Datatype", "DataType", "Data Type", "Format/Datatype")


def _checked(adapter: TypeAdapter[list[Any]], what: str, text: str | None) -> list[Any]:
    entries = _parsed(what, text)
    try:
        return adapter.validate_json(json.dumps(entries))
    except (ValidationError, ValueError, RecursionError) as error:
        raise _unreadable(what, _first(error)) from error


def _parsed(what: str, text: str | None) -> Any:
    """The JSON in a file; trtexec writes names without escaping them, so that some are no JSON."""
    if text is None:
        raise _unreadable(what, "it was not written")
    try:
        return json.loads(text, strict=False, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _unreadable(what, str(error)) from error


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not a number")


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join([".".join(map(str, first["loc"])), first["msg"]])


def _unreadable(what: str, problem: str) -> DeviceFailed:
    return DeviceFailed(f"trtexec's file of {what} cannot be read: {shown(problem, 300)}.")
