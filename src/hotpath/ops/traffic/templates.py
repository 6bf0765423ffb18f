"""Route templates out of paths, by structure: segments that vary become a parameter.

A path is a way through a tree of segments. A node whose children are many and alike is folded into one child, ``{}``:
values at once (numbers, dates, identifiers), words only when they are very many. The tree is bounded, so a log of any
length and any nonsense needs no more memory.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

# Children of one node that look like values, or like words, before they are folded into a parameter.
MAX_VALUES: Final = 8
MAX_WORDS: Final = 64
MAX_DEPTH: Final = 12
# Nodes of the whole tree; beyond, families are folded as soon as they have MAX_TIGHT children.
MAX_NODES: Final = 20_000
MAX_TIGHT: Final = 4
# Paths that a template is shown by.
MAX_EXAMPLES: Final = 3
MAX_EXAMPLE_BYTES: Final = 300
# Paths whose place in the tree is remembered.
MAX_REMEMBERED: Final = 20_000

PARAMETER: Final = b"{}"
# Digits somewhere, or longer than a word: an identifier, a date, a hash, a ticker.
_VALUE = re.compile(rb"\d|%[0-9A-Fa-f]{2}|^[A-Z]{1,5}$|^.{25,}$")


@dataclass(slots=True)
class Tally:
    """What was asked of one template. ``seconds`` is in all, of those requests whose line had a time taken.

    ``missing`` are those answered 404 or 410.
    """

    hits: int = 0
    size: int = 0
    seconds: float = 0.0
    timed: int = 0
    errors: int = 0
    missing: int = 0
    crawled: int = 0
    examples: list[bytes] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in another one's figures."""
        self.hits += other.hits
        self.size += other.size
        self.seconds += other.seconds
        self.timed += other.timed
        self.errors += other.errors
        self.missing += other.missing
        self.crawled += other.crawled
        self.examples = [*dict.fromkeys(self.examples + other.examples)][:MAX_EXAMPLES]


@dataclass(slots=True)
class _Node:
    """``open_families`` take in every further segment that is alike, words too."""

    children: dict[bytes, _Node] = field(default_factory=dict)
    tally: Tally | None = None
    open_families: set[bytes] = field(default_factory=set)


class Templates:
    """The tree. ``tally(path)`` is where a request of this path is counted."""

    def __init__(self) -> None:
        self._root = _Node()
        self._nodes = 0
        self._remembered: dict[bytes, Tally] = {}
        self._is_tight = False

    def tally(self, path: bytes) -> Tally:
        """The figures of the template that this path belongs to now."""
        found = self._remembered.get(path)
        if found is None:
            found = self._place(path)
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[path] = found
        return found

    def _place(self, path: bytes) -> Tally:
        node = self._root
        for segment in path[1:].split(b"/", MAX_DEPTH):
            child = node.children.get(segment) or _parameter_of(node, segment)
            if child is None:
                child = node.children[segment] = _Node()
                self._nodes += 1
                if self._fold(node, segment):
                    child = node.children[_family(segment)]
            node = child
        if node.tally is None:
            node.tally = Tally()
        if (
            len(node.tally.examples) < MAX_EXAMPLES
            and path not in node.tally.examples
            and len(path) <= MAX_EXAMPLE_BYTES
        ):
            node.tally.examples.append(path)
        self._is_tight = self._nodes > MAX_NODES
        return node.tally

    def _fold(self, node: _Node, segment: bytes) -> bool:
        """Make one child of all that look like this one, where they are too many."""
        family = _family(segment)
        alike = [name for name in node.children if name != family and _family(name) == family]
        values = [name for name in alike if _is_value(name)]
        if len(alike) > (MAX_TIGHT if self._is_tight else MAX_WORDS) or (
            # At the top stand a site's own words, few though they be beside numbers.
            node is not self._root and len(values) > MAX_VALUES and 2 * len(values) >= len(alike)
        ):
            node.open_families.add(family)
        elif _is_value(segment) and len(values) > MAX_VALUES:
            alike = values
        else:
            return False
        folded = node.children.setdefault(family, _Node())
        for name in alike:
            self._merge(folded, node.children.pop(name))
        self._remembered.clear()  # what was remembered leads to nodes that are no more
        return True

    def _merge(self, into: _Node, node: _Node) -> None:
        self._nodes -= 1
        if node.tally is not None:
            if into.tally is None:
                into.tally = Tally()
            into.tally.add(node.tally)
        for name, child in node.children.items():
            target = into.children.get(name) or _parameter_of(into, name)
            if target is None:
                into.children[name] = child
                self._fold(into, name)
            else:
                self._merge(target, child)

    def items(self) -> Iterator[tuple[str, Tally]]:
        """Every template with its figures, in no order. A parameter is ``{name}`` after the segment before it."""
        yield from _walk(self._root, ())


def _parameter_of(node: _Node, segment: bytes) -> _Node | None:
    """The child that stands for segments like this one."""
    family = _family(segment)
    return node.children.get(family) if family in node.open_families or _is_value(segment) else None


def _is_value(segment: bytes) -> bool:
    stem, _, _ = segment.rpartition(b".")
    return _VALUE.search(stem or segment) is not None


def _family(segment: bytes) -> bytes:
    """The parameter that this segment would be: pages and files of one kind are not mixed."""
    stem, dot, suffix = segment.rpartition(b".")
    if stem and suffix.isalnum() and not suffix.isdigit() and len(suffix) <= 5:
        return PARAMETER + dot + suffix
    return PARAMETER


def _walk(node: _Node, above: tuple[bytes, ...]) -> Iterator[tuple[str, Tally]]:
    if node.tally is not None:
        yield _named(above), node.tally
    for name, child in node.children.items():
        yield from _walk(child, (*above, name))


def _named(segments: tuple[bytes, ...]) -> str:
    """``/stocks/{stock}/prices/{price}`` for ``/stocks/{}/prices/{}``."""
    names: list[str] = []
    taken: set[str] = set()
    for place, segment in enumerate(segments):
        text = segment.decode("utf-8", "backslashreplace")
        if segment.startswith(PARAMETER):
            before = names[place - 1] if place else ""
            word = re.sub(r"\W+", "_", before).strip("_").lower()
            name = (word[:-1] if word.endswith("s") and not word.endswith("ss") else word) or "page"
            if not name.isidentifier() or keyword.iskeyword(name) or name in taken:
                name = f"part{place + 1}"
            taken.add(name)
            text = "{" + name + "}" + text[2:]
        names.append(text)
    return "/" + "/".join(names)
