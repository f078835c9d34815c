"""The result as Markdown, for pull requests and wikis."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from edgecr.report.candidates import focus, focus_name
from edgecr.report.compare import comparison_tables
from edgecr.report.doubts import UNVERIFIED, incomplete
from edgecr.report.gates.judge import reasons
from edgecr.report.headline import ideal_vs_measured, key_figures
from edgecr.report.result import Result
from edgecr.report.table import Table
from edgecr.report.tables import CANDIDATES, provenance, tables


def markdown(result: Result) -> str:
    """The whole report as one text."""
    return "\n".join(_lines(result)).rstrip() + "\n"


def comparison_markdown(results: Iterable[Result]) -> str:
    """Several results side by side."""
    parts = [line for table in comparison_tables(list(results)) for line in _table(table)]
    return "\n".join(["# Comparison", "", *parts]).rstrip() + "\n"


def overview_markdown(answer: str, table: Table) -> str:
    """Several candidates of one baseline."""
    return "\n".join([f"# {escaped(answer)}", "", *_table(table)]).rstrip() + "\n"


def _lines(result: Result) -> Iterator[str]:
    yield from (f"# {escaped(result.heading)}: {result.verdict.value}", "")
    if result.purpose:
        yield from (escaped(result.purpose), "")
    if result.tampered:
        yield f"> **{UNVERIFIED}:**\n>"
        yield from (f"> - {escaped(file)}: {escaped(problem)}" for file, problem in result.tampered.items())
        yield ""
    yield from (f"> **Warning:** {escaped(warning)}\n" for warning in result.warnings)
    yield from (f"> **Not complete:** {escaped(text)}\n" for text in incomplete(result))
    yield from (f"- {escaped(reason)}" for reason in reasons(result))
    yield ""
    found, shown = {table.title: table for table in tables(result)}, focus(result)
    if CANDIDATES in found:
        yield from _table(found.pop(CANDIDATES))
        yield from (f"{escaped(focus_name(result))}:", "")
    for each in key_figures(shown):
        yield f"- {escaped(each.label)}: **{escaped(each.value)}** ({escaped(each.detail)})"
        yield from (f"  - doubt: {escaped(doubt)}" for doubt in each.doubts)
    if remark := ideal_vs_measured(shown):
        yield f"- {remark}"
    yield ""
    for table in found.values():
        yield from _table(table)
    yield from _sources(result)


def _table(table: Table) -> Iterator[str]:
    yield from (f"## {escaped(table.title)}", "")
    yield _row(table.head)
    yield _row("---" for _ in table.head)
    yield from (_row(map(escaped, row)) for row in table.rows)
    yield from ("", f"{escaped(table.note)}\n" if table.note else "")
    yield from (f"{escaped(doubt)}\n" for doubt in table.doubts)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _sources(result: Result) -> Iterator[str]:
    if result.recipe:
        fence = "`" * (1 + max([2, *(len(run) for run in re.findall("`+", result.recipe))]))
        yield from ("## Recipe", "", f"{fence}yaml", result.recipe.rstrip(), fence, "")
    yield from ("## Where it was made", "")
    yield from (f"- {escaped(name)}: {escaped(value)}" for name, value in provenance(result).items())


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, also inside a table."""
    return re.sub(r"([\\`*_|\[\]<>#])", r"\\\1", text).replace("\n", " ")
