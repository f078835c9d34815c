"""Several candidates beside one another: which of them may ship, and why the others may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgecr.core.files import write_text
from edgecr.report.doubts import Marks
from edgecr.report.gates.judge import reasons
from edgecr.report.headline import key_figures
from edgecr.report.render.html import overview_html
from edgecr.report.render.markdown import overview_markdown
from edgecr.report.result import Result, Verdict
from edgecr.report.table import Table


def overview_table(results: Sequence[Result]) -> Table:
    """One row for each candidate: its verdict, its key figures, and its reasons."""
    marks, labels = Marks(), [figure.label for figure in key_figures(results[0])]
    rows = tuple(
        (
            result.name,
            result.verdict.value,
            *(marks.beside(f"{figure.value} ({figure.detail})", figure.doubts) for figure in key_figures(result)),
            "; ".join(reasons(result)),
        )
        for result in results
    )
    note = "Each candidate was measured beside the baseline; candidates were not measured beside one another."
    return Table("Candidates", ("candidate", "verdict", *labels, "why"), rows, note, marks.notes)


def answer(results: Sequence[Result]) -> str:
    """The candidates that may ship, in a sentence."""
    good = [result.name for result in results if result.verdict is Verdict.SHIP]
    return f"May ship: {', '.join(good)}." if good else "None of the candidates may ship."


def write_overview(results: Sequence[Result], folder: Path, links: Mapping[str, str]) -> None:
    """Writes the overview as ``report.html`` and ``report.md``; ``links`` lead to the report of each candidate."""
    write_text(folder / "report.html", overview_html(answer(results), results, overview_table(results), links))
    write_text(folder / "report.md", overview_markdown(answer(results), overview_table(results)))
