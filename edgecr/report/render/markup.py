"""Writes HTML and SVG elements; every text and attribute is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is already HTML or SVG."""

    __slots__ = ()


def text(value: str) -> Markup:
    """Escapes plain text; markup passes."""
    return value if isinstance(value, Markup) else Markup(escape(value))


def tag(name: str, /, *children: str, **attributes: str | float) -> Markup:
    """One element; ``class_`` and ``data_x`` become ``class`` and ``data-x``."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"' for key, value in attributes.items()
    )
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def void(name: str, /, **attributes: str) -> Markup:
    """An element without an end tag."""
    return Markup(tag(name, **attributes).removesuffix(f"</{name}>"))


def joined(parts: Iterable[str]) -> Markup:
    """Several pieces in a row."""
    return Markup("".join(text(part) for part in parts))


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
