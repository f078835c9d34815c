"""The result as one HTML file that needs nothing else: no network and no scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from edgecr.report.candidates import focus, focus_name, named_views, views
from edgecr.report.compare import comparison_tables
from edgecr.report.doubts import UNVERIFIED, incomplete, unmarked
from edgecr.report.gates.evidence import place_in
from edgecr.report.gates.judge import reasons
from edgecr.report.headline import ROLES, ideal_vs_measured, key_figures
from edgecr.report.render.markup import Markup, joined, tag, void
from edgecr.report.render.plots import accuracy_bars, agreement_bars, difference_plot, minute_dots, trade_off
from edgecr.report.render.style import STYLE
from edgecr.report.render.trade_off import Named, common_condition, latency_points, size_points
from edgecr.report.result import Result, Status, Verdict
from edgecr.report.table import Table
from edgecr.report.tables import CANDIDATES, accuracy_titles, condition_name, provenance, tables
from edgecr.robustness.examples import Answer, Example

_TONE = {
    Verdict.SHIP.value: "pass",
    Verdict.DONT_SHIP.value: "fail",
    Status.PASS.value: "pass",
    Status.FAIL.value: "fail",
    Status.INCOMPLETE.value: "open",
}
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Whatever a text smuggles in, the browser loads and runs nothing."""


def html(result: Result) -> str:
    """The whole report as one page."""
    by_title = {table.title: table for table in tables(result)}
    sections = [_unverified(result), *_first_screen(result, by_title.pop(CANDIDATES, None)), _key_figures(result)]
    sections += [_table_section(by_title.pop("Gates"))] if "Gates" in by_title else []
    for view in views(result):
        titles = accuracy_titles(view, result.label(view.targets[0]))
        sections += [_robustness(view, *place, by_title.pop(title)) for place, title in titles.items()]
    sections += [_trade_offs(named_views(result)), _examples(result), _minutes(result)]
    sections += [_table_section(table) for table in by_title.values()]
    return _page(f"{result.heading}: {result.verdict.value}", [*sections, *_sources(result)])


def _first_screen(result: Result, candidates: Table | None) -> list[Markup]:
    """The verdict; of several candidates then the table that says which file ships on which device, and why not all."""
    if candidates is None:
        return [_warnings(result), _header(result)]
    return [_header(result), _table_section(candidates), _warnings(result)]


def comparison_html(results: Sequence[Result]) -> str:
    """Several results side by side as one page."""
    names = ", ".join(result.name for result in results)
    head = tag("header", tag("p", "EdgeCR comparison", class_="kicker"), tag("h1", names))
    models = [view for result in results for view in named_views(result, result.name)]
    return _page(
        "Comparison", [head, _trade_offs(models), *(_table_section(table) for table in comparison_tables(results))]
    )


def overview_html(answer: str, results: Sequence[Result], table: Table, links: Mapping[str, str]) -> str:
    """Several candidates of one baseline as one page, with links to the report of each."""
    found = {result.verdict for result in results}
    best = next(each for each in (Verdict.SHIP, Verdict.INCOMPLETE, Verdict.DONT_SHIP) if each in found)
    head = tag(
        "header",
        tag("p", "EdgeCR report", class_="kicker"),
        tag("h1", "Candidates"),
        tag("div", tag("strong", answer), class_=f"verdict {_TONE[best.value]}"),
    )
    purposes = {result.name: result.purpose for result in results}
    pages = tag("ul", *(tag("li", tag("a", name, href=link), f": {purposes[name]}") for name, link in links.items()))
    reports = tag("section", tag("h2", "The report of each candidate"), pages)
    return _page(
        "Candidates", [head, _table_section(table), _trade_offs([(each.name, each) for each in results]), reports]
    )


def _page(title: str, sections: Sequence[Markup]) -> str:
    head = tag(
        "head",
        void("meta", charset="utf-8"),
        tag("title", f"{title} · EdgeCR"),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        void("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        void("meta", name="color-scheme", content="light dark"),
        tag("style", Markup(STYLE)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', tag('main', *sections)), lang='en')}\n"


def _header(result: Result) -> Markup:
    tone = _TONE[result.verdict.value]
    why = tag("ul", *(tag("li", _unbroken(reason)) for reason in reasons(result)))
    return tag(
        "header",
        tag("p", "EdgeCR report", class_="kicker"),
        tag("h1", result.heading),
        tag("p", result.purpose, class_="purpose") if result.purpose else "",
        tag("div", tag("strong", result.verdict.value), why, class_=f"verdict {tone}"),
    )


def _warnings(result: Result) -> Markup:
    lines = [tag("p", tag("b", "Warning "), warning) for warning in result.warnings]
    lines += [tag("p", tag("b", "Not complete "), text) for text in incomplete(result)]
    return tag("section", *lines, class_="warnings") if lines else Markup("")


def _unverified(result: Result) -> Markup:
    """The files that the report cannot rest on."""
    if not result.tampered:
        return Markup("")
    files = (tag("li", tag("code", file), f": {problem}") for file, problem in result.tampered.items())
    return tag("section", tag("p", tag("b", UNVERIFIED)), tag("ul", *files), class_="warnings unverified")


def _key_figures(result: Result) -> Markup:
    tiles = [
        tag(
            "div",
            tag("span", each.label),
            tag("b", each.value),
            tag("small", _unbroken(each.detail)),
            *(tag("small", f"Doubt: {doubt}", class_="doubt") for doubt in each.doubts),
            class_="tile",
        )
        for each in key_figures(focus(result))
    ]
    title = tag("h2", focus_name(result)) if result.many else ""
    grid = tag("div", *tiles, class_="tiles")
    remark = ideal_vs_measured(focus(result))
    return tag("section", title, grid, tag("p", remark, class_="note") if remark else "")


def _robustness(result: Result, suite: str, board: str, table: Table) -> Markup:
    """A suite's plots, as one board or this machine answered, and below them their figures as a table."""
    rows = result.answers(suite, board)
    if result.labelled:
        plots = [_figure("Accuracy, %", accuracy_bars(rows), legend=True)]
    else:
        plots = [_figure("Images answered as the baseline does, %", agreement_bars(rows))]
    if any(row.delta for row in rows):
        plots.append(_figure("Candidate minus baseline, points", difference_plot(rows)))
    title = tag("h2", table.title.replace(", suite", " under", 1))
    return tag("section", title, tag("div", *plots, class_="plots"), *_table(table))


def _figure(caption: str, plot: Markup, *, legend: bool = False) -> Markup:
    keys = [tag("span", role, class_=f"key {role}") for role in ROLES] if legend else []
    return tag("figure", tag("figcaption", caption, *keys), plot)


def _trade_offs(results: Named) -> Markup:
    """Accuracy against what it costs: size, and latency on the first device."""
    plots = []
    if sizes := size_points(results):
        plots.append(_figure("Accuracy and file size", trade_off("file size, MB", sizes), legend=True))
    where, latencies = latency_points(results)
    if latencies:
        title = f"median latency, ms ({where})"
        plots.append(_figure("Accuracy and latency", trade_off(title, latencies), legend=not sizes))
    if not plots:
        return Markup("")
    suite, _ = common_condition(results)
    judged = f"Accuracy is the mean over {suite}." if suite else "Accuracy on clean images."
    note = tag("p", f"{judged} Up and to the left is better.", class_="note")
    return tag("section", tag("h2", "Trade-off"), tag("div", *plots, class_="plots"), note)


def _minutes(result: Result) -> Markup:
    """The course of long measurements; their figures are among the tables."""
    figures = [
        _figure(f"{place_in(result, row)}, % of the first minute", minute_dots(row), legend=True)
        for row in result.latency
        if row.minutes
    ]
    return (
        tag("section", tag("h2", "Minute by minute"), tag("div", *figures, class_="plots")) if figures else Markup("")
    )


def _examples(result: Result) -> Markup:
    if not result.examples:
        return Markup("")
    note = (
        "Images whose answer compression changed come first. "
        "Left the image as it was taken, right as the models saw it."
    )
    cards = tag("div", *map(_card, result.examples), class_="cards")
    whose = f", {focus(result).targets[0]}" if result.many else ""
    return tag("section", tag("h2", f"How it looks{whose}"), tag("p", note, class_="note"), cards)


def _card(example: Example) -> Markup:
    pictures = [
        void("img", src=f"data:image/png;base64,{data}", alt=f"{example.label}, {words}")
        for data, words in ((example.clean_png, "clean"), (example.png, example.condition))
        if data
    ]
    answers = [_answer(role, answer) for role, answer in example.answers.items()]
    head = tag("p", tag("b", condition_name(example.condition)), f" · {example.label}, image {example.index}")
    return tag("article", tag("div", *pictures, class_="pictures"), head, *answers)


def _answer(role: str, answer: Answer) -> Markup:
    sure = "" if answer.probability is None else tag("small", f" {answer.probability:.0%}")
    return tag("p", tag("span", role, class_="role"), tag("span", _mark(answer), answer.label, sure), class_="answer")


def _mark(answer: Answer) -> Markup:
    """The sign of a right or a wrong answer; a graded one has none."""
    if answer.right is None:
        return Markup("")
    tone, word, mark = ("pass", "right", "✓") if answer.right else ("fail", "wrong", "✗")
    return tag("span", mark, class_=f"mark {tone}", role="img", aria_label=word)


def _table_section(table: Table) -> Markup:
    return tag("section", tag("h2", table.title), *_table(table))


def _table(table: Table) -> Iterator[Markup]:
    head = tag("thead", tag("tr", *(tag("th", title, scope="col") for title in table.head)))
    rows = (tag("tr", *(_cell(title, cell) for title, cell in zip(table.head, row))) for row in table.rows)
    yield tag("table", head, tag("tbody", *rows))
    if table.note:
        yield tag("p", table.note, class_="note")
    if table.doubts:
        yield tag("ul", *(tag("li", doubt) for doubt in table.doubts), class_="doubts")


def _cell(title: str, cell: str) -> Markup:
    bare, numbers = unmarked(cell)
    tone = _TONE.get(bare)
    shown = tag("span", bare, class_=f"badge {tone}") if tone else _unbroken(bare)
    inner = tag("span", shown, numbers) if numbers else shown
    return tag("td", inner, data_label=title, **({} if cell else {"class_": "empty"}))


def _unbroken(cell: str) -> Markup:
    """The cell with its intervals and units kept in one piece."""
    glued = re.sub(r"(\d) (%|ms|MB|img/s|points|s|min)(?!\w)", "\\1\N{NO-BREAK SPACE}\\2", cell)
    glued = re.sub("([≈≤≥]) ", "\\1\N{NO-BREAK SPACE}", glued)
    pieces = re.split(r"(\[[^\[\]]{1,40}\])", glued)
    parts = (tag("span", piece, class_="interval") if number % 2 else piece for number, piece in enumerate(pieces))
    return tag("span", *parts)


def _sources(result: Result) -> Iterator[Markup]:
    if result.recipe:
        yield tag("section", tag("h2", "Recipe"), tag("pre", tag("code", result.recipe)))
    facts = (joined([tag("dt", name), tag("dd", value)]) for name, value in provenance(result).items())
    yield tag("section", tag("h2", "Where it was made"), tag("dl", *facts))
