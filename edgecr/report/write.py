"""Writes a report's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgecr.core.errors import RequestError
from edgecr.core.files import write_text
from edgecr.report.render.html import comparison_html, html
from edgecr.report.render.markdown import comparison_markdown, markdown
from edgecr.report.result import Result

COMPARISONS = {".html": comparison_html, ".md": comparison_markdown}
"""The functions that write several results side by side, by the file's ending."""


def write_report(result: Result, folder: Path) -> dict[str, Path]:
    """Writes ``report.json``, ``report.md`` and ``report.html``, each atomically."""
    paths = {kind: folder / f"report.{kind}" for kind in ("json", "md", "html")}
    result.save(paths["json"])
    write_text(paths["md"], markdown(result))
    write_text(paths["html"], html(result))
    return paths


def write_comparison(results: Sequence[Result], path: Path) -> None:
    """Writes several results side by side, in the form that the file's ending asks for."""
    if path.suffix not in COMPARISONS:
        raise RequestError(f"{path}: a comparison is written as {' or '.join(COMPARISONS)}; choose such an ending.")
    write_text(path, COMPARISONS[path.suffix](results))
