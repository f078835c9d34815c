"""Exported files of any tool, judged against a baseline without a recipe."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgecr.api.runs import AnyPath, plain_values, progress
from edgecr.core.errors import RequestError

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
    devices: str | Sequence[str] = ("cpu",),
    suites: str | Sequence[str] = ("noise5",),
    gates: str | Iterable[str] | Mapping[str, Mapping[str, Any]] = (),
    images: int | None = None,
    mean: Three | str | None = None,
    std: Three | str | None = None,
    size: Size | int | str | None = None,
    classes: AnyPath | None = None,
    output: AnyPath = "judged",
    junit: AnyPath | None = None,
    threads: int = 0,
    quiet: bool = False,
    monitor: Monitor | None = None,
) -> Judgement:
    """Judges exported ONNX files against a baseline, as ``edgecr judge`` does; without gates nothing may ship.

    ``gates`` are texts such as ``"clean_accuracy.drop=0.01"``, or a mapping as under a recipe's ``gates:``. ``mean``,
    ``std`` and ``size`` are needed only where no manifest beside the files records them; the command's texts are taken
    too. With ``junit`` the gates are written there for a build server.
    """
    from edgecr.data.scale import scaling
    from edgecr.report.render.junit import junit_file
    from edgecr.stages.judge_files import FilesToJudge, judge_files, parse_gates
    from edgecr.stages.judge_inputs import Given, sides

    with junit_file(None if junit is None else _path("junit", junit), str(baseline)) as tell:
        given = Given(
            *scaling(mean, std),
            None if size is None else sides(size),
            None if classes is None else _path("classes", classes),
        )
        files = [candidates] if isinstance(candidates, str | os.PathLike) else candidates
        asked = FilesToJudge(
            _path("baseline", baseline),
            tuple(_path("candidates", file) for file in _items("candidates", files)),
            _path("data", data),
            _items("devices", devices),
            _items("suites", suites),
            parse_gates(plain_values(gates, "gates") if isinstance(gates, Mapping) else _items("gates", gates)),
            images,
            given,
            threads,
        )
        case, reports = judge_files(asked, _path("output", output), monitor or progress(quiet))
        tell(reports)
    return Judgement(case.folder, reports)


def _path(name: str, given: Any) -> Path:
    try:
        return Path(given)
    except TypeError as error:
        raise RequestError(f"{name}={given!r}: give the path of a file or a folder.") from error


def _items(name: str, given: Any) -> tuple[Any, ...]:
    """Several values of one keyword; one text alone is one value."""
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, Iterable):
        raise RequestError(f"{name}={given!r}: give a list.")
    return tuple(given)
