import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from rich.console import Console

from edgecr.core.estimate import Estimate
from edgecr.report.numbers import COUNT, MILLISECONDS, PERCENT, POINTS, RATIO, counted, figure, number
from edgecr.report.render.html import comparison_html, html
from edgecr.report.render.markdown import comparison_markdown, markdown
from edgecr.report.render.plots import Axis, nice_step
from edgecr.report.render.terminal import render, render_comparison
from edgecr.report.result import Result
from edgecr.report.write import write_report

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Nesting(HTMLParser):
    """Fails on an element that is closed in the wrong order, and collects what is linked."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags, self.text = [], [], set(), ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "action", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(page):
    reader = Nesting()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_html_is_well_formed_and_needs_nothing_else(full):
    page = html(full)
    reader = parsed(page)
    assert all(link.startswith("data:image/png;base64,") for link in reader.links)
    assert len(reader.links) == 2
    assert not re.search(r"(https?:)?//\w|@import|url\(", page)
    assert not reader.tags & {"script", "link", "iframe", "object"}


def test_html_escapes_every_text(full):
    page = html(full)
    assert "<script>" not in page
    assert "<img src=x>" not in page
    assert "<i>cat" not in page
    reader = parsed(page)
    assert "tricky | <script>alert(1)</script>" in reader.text
    assert "# </pre><img src=x>" in reader.text


def test_html_tells_the_verdict_every_gate_and_the_reasons(full):
    text = parsed(html(full)).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "DON'T SHIP" in text
    for gate in full.gates:
        assert gate.name in text
        assert gate.text in text
    assert text.index("slower than its baseline") < text.index("DON'T SHIP", text.index("EdgeCR report"))


def test_plots_are_well_formed(full):
    found = re.findall(r"<svg.*?</svg>", html(full), flags=re.DOTALL)
    assert len(found) == 4
    for plot in found:
        ElementTree.fromstring(plot)
        assert "nan" not in plot


def test_a_page_without_figures_says_so():
    page = parsed(html(Result("empty", "empty-1")))
    assert "INCOMPLETE" in page.text
    assert "no gates were declared" in page.text


def test_markdown_has_every_gate_and_escapes(full):
    text = markdown(full)
    plain = text.replace("\\", "")
    title, warning = text.index("# tricky"), text.index("> **Warning:** The exported candidate is slower")
    assert title == 0 < warning < text.index("## ")
    for gate in full.gates:
        assert gate.name in plain
        assert gate.text in plain
    assert r"\<script\>" in text
    assert "````yaml" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) >= 4 for line in tables)


@pytest.mark.parametrize("width", [60, 140])
def test_terminal_at_every_width(full, width):
    console = Console(width=width, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as capture:
        console.print(render(full))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    flat = re.sub(r"[\s│]+", " ", text)
    assert flat.startswith("Warning: The exported candidate is slower")
    assert "DON'T SHIP" in flat
    assert "[/" not in flat
    for gate in full.gates:
        assert gate.name in flat


def test_comparison(full):
    other = Result("other", "other-87654321", accuracy=full.accuracy)
    page = parsed(comparison_html([full, other]))
    assert "12345678" in page.text
    assert "87654321" in page.text
    assert "(0.00" in page.text
    assert "INCOMPLETE" in comparison_markdown([full, other])
    console = Console(width=120)
    with console.capture() as capture:
        console.print(render_comparison([full, other]))
    assert "Against their own baseline" in capture.get()
    assert comparison_markdown([]).startswith("# Comparison")
    parsed(comparison_html([]))


def test_three_files_are_written(full, tmp_path):
    paths = write_report(full, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]
    assert Result.load(paths["json"]) == full


@pytest.mark.parametrize(
    ("value", "scale", "expected"),
    [
        (0.87654, PERCENT, "87.7"),
        (-0.01234, POINTS, "\N{MINUS SIGN}1.23"),
        (0.00001, POINTS, "0.00"),
        (0.5, RATIO, "0.50"),
        (0.0123, MILLISECONDS, "0.0123"),
        (12.345, MILLISECONDS, "12.3"),
        (1234.5, MILLISECONDS, "1,234"),
        (40_813_184, COUNT, "40.8 M"),
        (0.0, MILLISECONDS, "0"),
    ],
)
def test_numbers(value, scale, expected):
    assert number(value, scale) == expected


def test_figures():
    assert figure(None, PERCENT) == "INCOMPLETE"
    assert figure(Estimate(0.5, 0.4, 0.6, 0.95), PERCENT) == "50.0 % [40.0, 60.0]"
    assert figure(Estimate(0.5), PERCENT) == "≈ 50.0 %"
    assert figure(counted(0.5), RATIO) == "0.50x"


def test_axis_ticks_are_round_and_inside():
    assert nice_step(0.23) == pytest.approx(0.5)
    axis = Axis(0.78, 0.87, 0, 100)
    assert axis.ticks(5) == pytest.approx([0.78, 0.8, 0.82, 0.84, 0.86])
    assert axis(0.78) == 0
