"""Exported files of any tool, judged against a baseline without a recipe."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgecr.api.runs import AnyPath, progress

if TYPE_CHECKING:
    from edgecr.api.images import Size, Three
    from edgecr.report.result import Result


class Judgement(NamedTuple):
    """The folder with the evidence, and one report for each candidate."""

    folder: Path
    reports: list[Result]


def judge(
    baseline: AnyPath,
    candidates: AnyPath | Sequence[AnyPath],
    *,
    data: AnyPath,
    devices: Sequence[str] = ("cpu",),
    suites: Sequence[str] = ("noise5",),
    gates: Iterable[str] = (),
    images: int | None = None,
    mean: Three | None = None,
    std: Three | None = None,
    size: Size | None = None,
    classes: AnyPath | None = None,
    output: AnyPath = "judged",
    threads: int = 0,
    quiet: bool = False,
) -> Judgement:
    """Judges exported ONNX files against a baseline, as ``edgecr judge`` does; without gates nothing may ship.

    ``gates`` are texts such as ``"clean_accuracy.drop=0.01"``. ``mean``, ``std`` and ``size`` are needed only where no
    manifest beside the files records them.
    """
    from edgecr.stages.judge_files import FilesToJudge, judge_files, parse_gates
    from edgecr.stages.judge_inputs import Given, deviations, means, sides

    files = [candidates] if isinstance(candidates, str | os.PathLike) else list(candidates)
    given = Given(
        None if mean is None else means(",".join(map(str, mean))),
        None if std is None else deviations(",".join(map(str, std))),
        None if size is None else sides("x".join(map(str, size))),
        None if classes is None else Path(classes),
    )
    asked = FilesToJudge(
        Path(baseline),
        tuple(map(Path, files)),
        Path(data),
        tuple(devices),
        tuple(suites),
        parse_gates(gates),
        images,
        given,
        threads,
    )
    case, reports = judge_files(asked, Path(output), progress(quiet))
    return Judgement(case.folder, reports)
