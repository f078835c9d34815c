"""Writes a report's files."""

from __future__ import annotations

from pathlib import Path

from edgecr.files import write_text
from edgecr.report.html import html
from edgecr.report.markdown import markdown
from edgecr.report.result import Result


def write_report(result: Result, folder: Path) -> dict[str, Path]:
    """Writes ``report.json``, ``report.md`` and ``report.html``, each atomically."""
    paths = {kind: folder / f"report.{kind}" for kind in ("json", "md", "html")}
    result.save(paths["json"])
    write_text(paths["md"], markdown(result))
    write_text(paths["html"], html(result))
    return paths
