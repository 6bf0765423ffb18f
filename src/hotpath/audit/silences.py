"""``# hotpath: bounded – reason``: a comment by somebody who knows why something cannot grow."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

MARK = b"hotpath:"

_COMMENT = re.compile(r"#\s*hotpath:\s*bounded\b\W*(?P<reason>.*)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Silence:
    """A comment. It covers its own line and, where it stands alone, the next line of code."""

    line: int
    reason: str
    covers: frozenset[int]


def decoded(data: bytes) -> list[str]:
    """The lines of a file in the coding that it declares (PEP 263). Raises ``SyntaxError`` where that is none."""
    lines = data.splitlines()
    coding, _ = tokenize.detect_encoding(iter(data.splitlines(keepends=True)).__next__)
    if lines:
        lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
    return [line.decode("utf-8" if coding == "utf-8-sig" else coding, "replace") for line in lines]


def silences(lines: list[str]) -> Iterator[Silence]:
    """The comments among ``lines``; text inside strings is none. Lines that cannot be tokenized end the search."""
    waiting: list[tuple[int, str]] = []
    alone = True
    try:
        for token in tokenize.generate_tokens(iter([line + "\n" for line in lines]).__next__):
            if token.type == tokenize.COMMENT:
                match = _COMMENT.search(token.string)
                if match and alone:
                    waiting.append((token.start[0], match["reason"].strip()))
                elif match:
                    yield Silence(token.start[0], match["reason"].strip(), frozenset({token.start[0]}))
            elif token.type in (tokenize.NEWLINE, tokenize.NL):
                alone = True
            elif token.type not in (tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER):
                alone = False
                for line, reason in waiting:
                    yield Silence(line, reason, frozenset({line, token.start[0]}))
                waiting.clear()
    except (tokenize.TokenError, IndentationError):
        pass
    for line, reason in waiting:
        yield Silence(line, reason, frozenset({line}))
