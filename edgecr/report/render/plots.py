"""The plots of a report as inline SVG, drawn for the width of a phone and scaled up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from edgecr.core.estimate import Estimate
from edgecr.report.numbers import DIFFERENCE, MINUS, PERCENT, POINTS, figure, point
from edgecr.report.render.markup import Markup, joined, tag
from edgecr.report.result import BASELINE, CANDIDATE, AccuracyRow, LatencyRow
from edgecr.report.tables import condition_name

WIDTH = 400.0
LEFT, RIGHT = 104.0, 52.0
"""Room for the names on the left and the figures on the right."""
LETTER = 7.0
"""Upper bound of the width of a letter in a name."""


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels, by calling it."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 4) -> list[float]:
        """Round values within the axis."""
        step = nice_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]


def nice_step(rough: float) -> float:
    """The next round step: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def accuracy_bars(rows: Sequence[AccuracyRow]) -> Markup:
    """Both roles' accuracy per condition as bars with their intervals."""
    title = "Accuracy of both models under every condition, in percent"
    return _bars(title, rows, [{BASELINE: row.baseline, CANDIDATE: row.candidate} for row in rows])


def agreement_bars(rows: Sequence[AccuracyRow]) -> Markup:
    """The share of images that both models answer alike, per condition, as bars with their intervals."""
    title = "Images that both models answer alike under every condition, in percent"
    return _bars(title, rows, [{CANDIDATE: row.agreement} for row in rows])


def _bars(title: str, rows: Sequence[AccuracyRow], shares: Sequence[Mapping[str, Estimate | None]]) -> Markup:
    """Shares of images for each row, a bar for each role."""
    axis, pitch = Axis(0, 1, LEFT, WIDTH - RIGHT), 12.0 + 16 * max(map(len, shares))
    height = len(rows) * pitch + 26
    parts = [_vertical_grid(axis, height - 20, [(tick, f"{tick * 100:g}") for tick in axis.ticks(5)])]
    for index, (row, bars) in enumerate(zip(rows, shares)):
        top = index * pitch + 6
        parts.append(_name(row, top + pitch / 2 - 4))
        parts += [_bar(axis, top + 16 * place, *bar) for place, bar in enumerate(bars.items())]
    return _svg(height, title, parts)


def _bar(axis: Axis, top: float, role: str, estimate: Estimate | None) -> Markup:
    middle = top + 7
    label = tag("text", point(estimate, PERCENT), x=WIDTH, y=middle + 4, class_="figure", text_anchor="end")
    if estimate is None:
        return label
    bar = tag(
        "rect",
        _hover(f"{role}: {figure(estimate, PERCENT)}"),
        x=axis.start,
        y=top,
        rx=2,
        class_=role,
        width=max(axis(estimate.value) - axis.start, 0.5),
        height=14,
    )
    return joined([bar, _whisker(axis, middle, estimate), label])


def _whisker(axis: Axis, y: float, estimate: Estimate) -> Markup:
    if estimate.low is None or estimate.high is None:
        return Markup("")
    low, high = axis(estimate.low), axis(estimate.high)
    path = f"M{low:.1f} {y - 3:.1f}v6M{low:.1f} {y:.1f}H{high:.1f}M{high:.1f} {y - 3:.1f}v6"
    return tag("path", d=path, class_="whisker")


def difference_plot(rows: Sequence[AccuracyRow]) -> Markup:
    """The plot of the change in accuracy under each condition: candidate minus baseline with its paired interval."""
    known = [row.delta for row in rows if row.delta]
    ends = [end for each in known for end in (each.value, each.low, each.high) if end is not None]
    room = max([0.01, *map(abs, ends)]) * 0.15
    axis = Axis(min([0.0, *ends]) - room, max([0.0, *ends]) + room, LEFT, WIDTH - RIGHT)
    pitch = 44.0
    height = len(rows) * pitch + 26
    ticks = [(tick, f"{tick * 100:+g}".replace("-", MINUS) if tick else "0") for tick in axis.ticks(5)]
    parts = [
        _vertical_grid(axis, height - 20, ticks),
        tag("path", d=f"M{axis(0):.1f} 2V{height - 20:.1f}", class_="zero"),
    ]
    parts += [_difference(axis, index * pitch + pitch / 2 + 2, row) for index, row in enumerate(rows)]
    return _svg(height, "Candidate minus baseline in percentage points", parts)


def _difference(axis: Axis, y: float, row: AccuracyRow) -> Markup:
    label = tag("text", point(row.delta, DIFFERENCE), x=WIDTH, y=y + 4, class_="figure", text_anchor="end")
    if row.delta is None:
        return joined([_name(row, y), label])
    hover = _hover(figure(row.delta, POINTS))
    dot = tag("circle", hover, cx=axis(row.delta.value), cy=y, r=5, class_=CANDIDATE)
    return joined([_name(row, y), _whisker(axis, y, row.delta), dot, label])


@dataclass(frozen=True)
class TradeOffPoint:
    """One model in a trade-off plot."""

    name: str
    role: str
    x: Estimate
    y: Estimate


def trade_off(title: str, spots: Sequence[TradeOffPoint]) -> Markup:
    """Cost to the right, accuracy upwards; up and left is better."""
    height = 250.0
    across = Axis(0, max(max(spot.x.value, spot.x.high or 0) for spot in spots) * 1.12, 36, WIDTH - 12)
    ends = [end for spot in spots for end in (spot.y.value, spot.y.low, spot.y.high) if end is not None]
    margin = max((max(ends) - min(ends)) * 0.15, 0.01)
    up = Axis(max(0.0, min(ends) - margin), min(1.0, max(ends) + margin), height - 40, 14)
    parts = [_horizontal_grid(up, across), _vertical_grid(across, height - 40, _plain_ticks(across))]
    middle = (across.start + across.end) / 2
    parts += [
        tag("text", title, x=middle, y=height - 6, class_="axis", text_anchor="middle"),
        tag("text", "accuracy, %", x=0, y=8, class_="axis"),
    ]
    parts += [
        _arrow(across, up, one, two) for one, two in pairwise(spots) if (one.role, two.role) == (BASELINE, CANDIDATE)
    ]
    parts += [_spot(across, up, spot) for spot in spots]
    parts += _names(across, up, [spot for spot in spots if spot.name])
    return _svg(height, f"Accuracy against {title}", parts)


def _arrow(across: Axis, up: Axis, one: TradeOffPoint, two: TradeOffPoint) -> Markup:
    ends = [f"{across(spot.x.value):.1f} {up(spot.y.value):.1f}" for spot in (one, two)]
    return tag("path", d=f"M{ends[0]}L{ends[1]}", class_="arrow")


def _spot(across: Axis, up: Axis, spot: TradeOffPoint) -> Markup:
    x, y = across(spot.x.value), up(spot.y.value)
    lines = ""
    if spot.y.low is not None and spot.y.high is not None:
        lines += f"M{x:.1f} {up(spot.y.low):.1f}V{up(spot.y.high):.1f}"
    if spot.x.low is not None and spot.x.high is not None:
        lines += f"M{across(spot.x.low):.1f} {y:.1f}H{across(spot.x.high):.1f}"
    hover = _hover(f"{spot.name or spot.role}: {figure(spot.y, PERCENT)}")
    dot = tag("circle", hover, cx=x, cy=y, r=7, class_=spot.role)
    return joined([tag("path", d=lines, class_="whisker"), dot])


def _names(across: Axis, up: Axis, spots: Sequence[TradeOffPoint]) -> list[Markup]:
    """Baselines are named above, candidates below; a name that would cover another moves further down."""
    middle, taken, names = (across.start + across.end) / 2, list[tuple[float, float, float]](), []
    for spot in spots:
        x, y = across(spot.x.value), up(spot.y.value) + (-9 if spot.role == BASELINE else 20)
        side, anchor = (-12, "end") if x > middle else (12, "start")
        width = LETTER * len(spot.name)
        left = x + side - (width if anchor == "end" else 0)
        while any(left < right and start < left + width and abs(y - line) < 13 for start, right, line in taken):
            y += 14
        taken.append((left, left + width, y))
        names.append(tag("text", spot.name, x=x + side, y=y, class_="figure", text_anchor=anchor))
    return names


def minute_dots(row: LatencyRow) -> Markup:
    """The median time of both roles in each minute of a long measurement, relative to that of the first one."""
    shares = [(one.number, role, ms / row.minutes[0].ms[role]) for one in row.minutes for role, ms in one.ms.items()]
    low, high = min(share for _, _, share in shares), max(share for _, _, share in shares)
    height, margin = 200.0, max((high - low) * 0.15, 0.01)
    across = Axis(0.5, len(row.minutes) + 0.5, 44, WIDTH - 12)
    up = Axis(low - margin, high + margin, height - 40, 14)
    whole = [(tick, f"{tick:g}") for tick in across.ticks(6) if tick == int(tick)]
    parts = [_horizontal_grid(up, across), _vertical_grid(across, height - 40, whole)]
    parts += [
        tag(
            "circle", _hover(f"{role}, minute {number}: {share:.1%}"), cx=across(number), cy=up(share), r=4, class_=role
        )
        for number, role, share in shares
    ]
    middle = (across.start + across.end) / 2
    parts.append(tag("text", "minute", x=middle, y=height - 6, class_="axis", text_anchor="middle"))
    return _svg(height, "Median time in each minute, in percent of the first minute's", parts)


def _plain_ticks(axis: Axis) -> list[tuple[float, str]]:
    return [(tick, f"{tick:g}") for tick in axis.ticks(5)]


def _vertical_grid(axis: Axis, bottom: float, ticks: Sequence[tuple[float, str]]) -> Markup:
    lines = [tag("path", d=f"M{axis(tick):.1f} 2V{bottom:.1f}", class_="grid") for tick, _ in ticks]
    names = [
        tag("text", name, x=axis(tick), y=bottom + 15, class_="axis", text_anchor="middle") for tick, name in ticks
    ]
    return joined([*lines, *names])


def _horizontal_grid(up: Axis, across: Axis) -> Markup:
    parts = []
    for tick in up.ticks(5):
        line = f"M{across.start:.1f} {up(tick):.1f}H{across.end:.1f}"
        parts.append(tag("path", d=line, class_="grid"))
        parts.append(
            tag("text", f"{tick * 100:g}", x=across.start - 6, y=up(tick) + 4, class_="axis", text_anchor="end")
        )
    return joined(parts)


def _name(row: AccuracyRow, y: float) -> Markup:
    words = condition_name(row.condition) if row.condition != "mean" else "mean"
    return tag("text", words, x=0, y=y + 4, class_="name")


def _hover(words: str) -> Markup:
    return tag("title", words)


def _svg(height: float, title: str, parts: Sequence[Markup]) -> Markup:
    box = f"0 0 {WIDTH:g} {height:g}"
    return tag("svg", tag("title", title), *parts, viewBox=box, role="img", aria_label=title)
