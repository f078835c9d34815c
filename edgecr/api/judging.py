"""Exported files of any tool, judged against a baseline without a recipe."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgecr.api.runs import AnyPath, progress

if TYPE_CHECKING:
    from edgecr.api.images import Size, Three
    from edgecr.core.progress import Monitor
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
    mean: Three | str | None = None,
    std: Three | str | None = None,
    size: Size | str | None = None,
    classes: AnyPath | None = None,
    output: AnyPath = "judged",
    junit: AnyPath | None = None,
    threads: int = 0,
    quiet: bool = False,
    monitor: Monitor | None = None,
) -> Judgement:
    """Judges exported ONNX files against a baseline, as ``edgecr judge`` does; without gates nothing may ship.

    ``gates`` are texts such as ``"clean_accuracy.drop=0.01"``. ``mean``, ``std`` and ``size`` are needed only where no
    manifest beside the files records them; the command's texts are taken too. With ``junit`` the gates are written
    there for a build server.
    """
    from edgecr.report.render.junit import junit_file
    from edgecr.stages.judge_files import FilesToJudge, judge_files, parse_gates
    from edgecr.stages.judge_inputs import Given, deviations, means, sides

    files = [candidates] if isinstance(candidates, str | os.PathLike) else list(candidates)
    with junit_file(None if junit is None else Path(junit), str(baseline)) as tell:
        given = Given(
            None if mean is None else means(_text(mean, ",")),
            None if std is None else deviations(_text(std, ",")),
            None if size is None else sides(_text(size, "x")),
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
        case, reports = judge_files(asked, Path(output), monitor or progress(quiet))
        tell(reports)
    return Judgement(case.folder, reports)


def _text(given: Sequence[float] | str, between: str) -> str:
    """Numbers as the command line writes them."""
    return given if isinstance(given, str) else between.join(map(str, given))
