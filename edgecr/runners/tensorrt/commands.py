"""trtexec's command lines in the words of each version, from 8.0 on.

What differs between versions is data: it was read in the options that NVIDIA's public source of trtexec declares.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgecr.core.errors import DeviceFailed, FileProblem
from edgecr.runners.runtimes.tensorrt import TensorRtOptions
from edgecr.runners.tensorrt.build_file import BuildFile

Number = tuple[int, int]
OLDEST: Number = (8, 0)
SPELLINGS: dict[str, tuple[tuple[Number, str], ...]] = {
    "workspace": (((8, 4), "--memPoolSize=workspace:{}"), (OLDEST, "--workspace={}")),
    "build only": (((8, 6), "--skipInference"), (OLDEST, "--buildOnly")),
    "streams": (((8, 6), "--infStreams={}"), (OLDEST, "--streams={}")),
}
"""Flags that were renamed: the newest spelling first, with the version that brought it."""
SINCE: dict[str, Number] = {
    "exportLayerInfo": (8, 2),
    "profilingVerbosity": (8, 2),
    "stronglyTyped": (10, 0),
    "includeDataTransfers": (11, 0),
}
"""Flags that older versions do not know."""
UNTIL: dict[str, Number] = dict.fromkeys(
    ("fp16", "int8", "stronglyTyped", "noDataTransfers", "useSpinWait", "useCudaGraph", "separateProfileRun"), (11, 0)
)
"""Flags that newer versions do not know, or do nothing for, because they always do so."""
FRACTIONS_SINCE: Number = (8, 4)
"""Older versions read lengths of time as whole numbers."""
TAKEN_OVER = frozenset({"fp16", "int8", "noTF32", "sparsity", "minShapes", "optShapes", "maxShapes", "stronglyTyped"})
"""Flags that a file may ask for: none that loads a library, or reads or writes another file."""
OWN = frozenset({"onnx", "saveEngine", "timingCacheFile", "memPoolSize", "workspace", "skipInference", "buildOnly"})
"""Flags of a file that EdgeCR gives itself, with its own paths."""
STEADY = ("noDataTransfers", "useSpinWait", "useCudaGraph")
"""The same is measured in all versions: what version 11 does unless told otherwise, older ones must be told to do."""
NO_DLA = ((11, 0, 0), (11, 4, 1))
"""From the first of these versions up to the second, which has it again, there is no deep learning accelerator."""


@dataclass(frozen=True, order=True)
class TrtVersion:
    """A version of TensorRT."""

    major: int
    minor: int
    patch: int

    @classmethod
    def of(cls, digits: str) -> TrtVersion:
        """The version that trtexec's banner gives as digits: 8502 is 8.5.2, 100300 is 10.3.0."""
        number = int(digits)
        if len(digits) > 4:
            return cls(number // 10000, number // 100 % 100, number % 100)
        return cls(number // 1000, number // 100 % 10, number % 100)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def number(self) -> Number:
        """The part that options depend on."""
        return self.major, self.minor

    def spelled(self, name: str, value: object = "") -> str:
        """A flag that was renamed, as this version knows it."""
        return next(text for since, text in SPELLINGS[name] if self.number >= since).format(value)

    def knows(self, flag: str) -> bool:
        """True for a flag that this version takes."""
        return SINCE.get(flag, OLDEST) <= self.number < UNTIL.get(flag, (1000, 0))

    def known(self, *flags: str) -> list[str]:
        """Those of some flags that this version takes."""
        return [f"--{flag}" for flag in flags if self.knows(flag)]

    def seconds(self, value: float) -> str:
        """A length of time: never shorter than asked for."""
        return f"{value:g}" if self.number >= FRACTIONS_SINCE else str(max(1, math.ceil(value)))


@dataclass(frozen=True)
class Places:
    """The names of a model and of what belongs to it, in the agent's folder."""

    model: str

    @property
    def folder(self) -> str:
        """The folder of the model."""
        return self.model.rpartition("/")[0]

    def of(self, name: str) -> str:
        """A file that trtexec reads or writes."""
        return f"{self.folder}/built/{name}"


def refuse_unknown(version: TrtVersion, options: TensorRtOptions) -> None:
    """Raises for a version that is too old, or that lacks the accelerator that is asked for."""
    if version.number < OLDEST:
        raise DeviceFailed(f"TensorRT {version} on the board is too old; EdgeCR knows 8.0 and later.")
    exact = (version.major, version.minor, version.patch)
    if options.dla is not None and NO_DLA[0] <= exact < NO_DLA[1]:
        raise DeviceFailed(
            f"TensorRT {version} has no DLA; use 10.7 or earlier, or 11.4.1 on JetPack 7.2.2 (AGX Orin). "
            "Or leave runtimes.tensorrt.dla out."
        )


def probe_flags() -> list[str]:
    """A run that tells version and processor and then fails, because there is no such engine."""
    return ["--loadEngine=@none.engine"]


def build_flags(version: TrtVersion, options: TensorRtOptions, file: BuildFile, places: Places) -> list[str]:
    """The build of an engine, as the exported file asks for it."""
    workspace = options.workspace_mb or file.workspace_mb
    return [
        f"--onnx=@{places.model}",
        f"--saveEngine=@{places.of('model.engine')}",
        f"--timingCacheFile=@{places.of('timing.cache')}",
        version.spelled("workspace", workspace),
        *_precision(version, file),
        *_dla(options, fallback=True),
        *(["--profilingVerbosity=detailed"] if version.knows("profilingVerbosity") else []),
        version.spelled("build only"),
    ]


def _precision(version: TrtVersion, file: BuildFile) -> Iterator[str]:
    """The flags of the file's nearest version of the same generation, without those that this one does not know."""
    for flag in file.flags_for(version.number):
        name = flag.removeprefix("--").partition("=")[0]
        if name in TAKEN_OVER and version.knows(name):
            yield flag
        elif name not in TAKEN_OVER | OWN | SINCE.keys():
            raise FileProblem(f"{file.path} asks for trtexec's flag {flag!r}, which is not taken from a file.")


def _dla(options: TensorRtOptions, *, fallback: bool) -> list[str]:
    if options.dla is None:
        return []
    return [f"--useDLACore={options.dla}", *(["--allowGPUFallback"] if fallback else [])]


def load_flags(options: TensorRtOptions, places: Places, shapes: str | None) -> list[str]:
    """The loading of an engine for a number of images at once."""
    return [
        f"--loadEngine=@{places.of('model.engine')}",
        *_dla(options, fallback=False),
        *([f"--shapes={shapes}"] if shapes else []),
    ]


def turn_flags(
    version: TrtVersion, options: TensorRtOptions, places: Places, shapes: str | None, seconds: float, streams: int = 1
) -> list[str]:
    """Timed inference: of one stream for a latency, of several at once for a throughput."""
    return [
        *load_flags(options, places, shapes),
        *version.known(*STEADY),
        f"--warmUp={options.warmup_ms}",
        f"--duration={version.seconds(seconds)}",
        *([version.spelled("streams", streams)] if streams > 1 else []),
        f"--exportTimes=@{places.of('times.json')}",
    ]


def layer_flags(
    version: TrtVersion, options: TensorRtOptions, places: Places, shapes: str | None, seconds: float
) -> list[str]:
    """The time of each layer; a run of its own, because it slows the inference."""
    return [
        *load_flags(options, places, shapes),
        *version.known(*STEADY),
        f"--warmUp={options.warmup_ms}",
        f"--duration={version.seconds(seconds)}",
        *version.known("separateProfileRun"),
        f"--exportProfile=@{places.of('profile.json')}",
        *([f"--exportLayerInfo=@{places.of('layers.json')}"] if version.knows("exportLayerInfo") else []),
    ]


def trial_flags(version: TrtVersion, options: TensorRtOptions, places: Places, shapes: str | None) -> list[str]:
    """One inference, which shows that an engine can be loaded."""
    shortest = 0 if version.number >= FRACTIONS_SINCE else 1
    return [*load_flags(options, places, shapes), "--warmUp=0", f"--duration={shortest}", "--iterations=1"]


def answer_flags(
    version: TrtVersion, options: TensorRtOptions, places: Places, shapes: str | None, name: str
) -> list[str]:
    """One inference on a given input, whose outputs are written."""
    return [
        *trial_flags(version, options, places, shapes),
        *version.known("includeDataTransfers"),
        f"--loadInputs={name}:@{places.of('input.bin')}",
        f"--exportOutput=@{places.of('output.json')}",
    ]


def shapes_of(name: str, dims: Sequence[int]) -> str:
    """An input's name and shape as trtexec reads them; a name with its punctuation in it is refused."""
    if re.search(r"[:,@'\"\s]", name):
        raise FileProblem(
            f"The input {name!r} cannot be named to trtexec; export it under a name of letters and digits."
        )
    return f"{name}:{'x'.join(map(str, dims))}"
