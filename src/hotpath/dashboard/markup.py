"""HTML and SVG as values: every text is escaped where it becomes markup, and what is markup already is a ``Markup``."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

from hotpath.options import printable

# Characters of one text that are shown: an error may carry a whole page in it.
MAX_CHARACTERS: Final = 600

_VOID: Final = frozenset({"meta", "link", "input", "rect", "line", "path"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]


def text(value: object, most: int = MAX_CHARACTERS) -> Markup:
    """Any value as the text of a page: control characters and marks of direction are shown, markup is none."""
    shown = str(value)
    if len(shown) > most:
        shown = f"{shown[:most]}… ({len(shown) - most:,} more characters)"
    return Markup(escape(printable(shown)))


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """An element. ``class_`` is the attribute ``class``, and an underscore in another name is a hyphen."""
    fields = "".join(
        _field(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{fields}/>")
    return Markup(f"<{name}{fields}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Elements and texts one after the other; ``None`` is nothing."""
    return Markup("".join(_child(child) for child in children))


def _child(child: Child) -> str:
    if isinstance(child, Markup):
        return child
    if child is None:
        return ""
    return text(child) if isinstance(child, str | int | float) else join(child)


def _field(key: str, value: str | float | bool) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{text(value, 2000)}"'


def table(heads: Iterable[Child], rows: Iterable[Iterable[Child]], caption: str) -> Markup:
    """A table whose first column names its rows. It may scroll sideways, and by the keyboard too."""
    body = [
        tag("tr", *(tag("td", cell) if place else tag("th", cell, scope="row") for place, cell in enumerate(row)))
        for row in rows
    ]
    head = tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads)))
    whole = tag("table", tag("caption", caption), head, tag("tbody", body))
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=f"Table: {caption}")
