"""The result on a terminal: tables when there is room, one fact a line when there is not."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from edgecr.core.printable import one_line, printable
from edgecr.report.candidates import focus, focus_name
from edgecr.report.compare import comparison_tables
from edgecr.report.doubts import UNVERIFIED, incomplete, unmarked
from edgecr.report.gates.judge import reasons
from edgecr.report.headline import ideal_vs_measured, key_figures
from edgecr.report.result import Result, Status, Verdict
from edgecr.report.table import Table
from edgecr.report.tables import CANDIDATES, tables

ROOM = 100
"""Columns from which tables are drawn; below, every row becomes a short list."""
_COLOURS = {
    Status.PASS.value: "green",
    Status.FAIL.value: "red",
    Status.INCOMPLETE.value: "yellow",
    Verdict.SHIP.value: "green",
    Verdict.DONT_SHIP.value: "red",
}


def render(result: Result) -> RenderableType:
    """Everything worth a terminal: warnings, tables, key figures, and the verdict last, where the eye is."""
    parts: list[RenderableType] = []
    if result.tampered:
        parts.append(_unverified(result))
    parts += [Text(printable(f"Warning: {each}"), style="yellow") for each in result.warnings]
    parts += [Text(printable(f"Not complete: {each}"), style="yellow") for each in incomplete(result)]
    parts.append(Text(one_line(f"{result.heading}  {result.id}"), style="bold"))
    drawn = {table.title: TableView(table) for table in tables(result)}
    last = [drawn.pop(title) for title in ("Gates", CANDIDATES) if title in drawn]
    parts += drawn.values()
    if remark := ideal_vs_measured(focus(result)):
        parts.append(Padding(Text(remark, style="dim"), (1, 0, 0, 0)))
    return Group(*parts, *last, verdict_panel(result))


def render_comparison(results: Iterable[Result]) -> RenderableType:
    """Several results side by side."""
    return Group(*(TableView(table) for table in comparison_tables(list(results))))


def verdict_panel(result: Result) -> RenderableType:
    """The key figures, of several targets those of the preferred one, the verdict and its reasons."""
    body, shown = Text(), focus(result)
    if result.many:
        body.append(printable(f"{focus_name(result)}\n"), style="bold")
    for each in key_figures(shown):
        body.append(printable(f"{each.label}: "))
        body.append(printable(each.value), style="bold")
        body.append(printable(f"  ({each.detail})\n"), style="dim")
        for doubt in each.doubts:
            body.append(printable(f"  doubt: {doubt}\n"), style="yellow")
    for reason in reasons(result):
        body.append(f"\n{one_line(reason)}")
    colour = _COLOURS[result.verdict.value]
    title = Text(f" {result.verdict.value} ", style=f"bold {colour}")
    return Padding(Panel(body, title=title, border_style=colour, padding=(1, 2)), (1, 0, 0, 0))


class TableView:
    """Draws a table as wide as the terminal allows."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(f"\n{self.table.title}", style="bold")
        yield self._grid() if options.max_width >= ROOM else self._list()
        if self.table.note:
            yield Text(printable(self.table.note), style="dim")
        for doubt in self.table.doubts:
            yield Text(printable(doubt), style="yellow")

    def _grid(self) -> RenderableType:
        grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
        for head in self.table.head:
            grid.add_column(Text(head), overflow="fold")
        for row in self.table.rows:
            grid.add_row(*(_cell(cell) for cell in row))
        return grid

    def _list(self) -> RenderableType:
        lines = Text()
        for row in self.table.rows:
            lines.append("\n")
            for head, cell in zip(self.table.head, row):
                if cell:
                    lines.append(f"  {head}: " if head else "  ", style="dim")
                    lines.append_text(_cell(cell)).append("\n")
        return lines


def _unverified(result: Result) -> RenderableType:
    """The files that the report cannot rest on."""
    files = Text("\n".join(one_line(f"{file}: {problem}") for file, problem in result.tampered.items()))
    return Panel(files, title=Text(UNVERIFIED, style="bold red"), border_style="red", padding=(1, 2))


def _cell(text: str) -> Text:
    return Text(printable(text), style=_COLOURS.get(unmarked(text)[0], ""))
