"""The mark of generations that came from an origin: this machine did not make them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

FILE = "from-origin"


def is_foreign(generation: Path) -> bool:
    """Whether the generation in this directory came from an origin."""
    return (generation / FILE).exists()


def origin_of(generation: Path) -> str | None:
    """The URL of that origin; ``None`` for a generation of this machine's own, or one that is not there."""
    with suppress(OSError, UnicodeDecodeError):
        return (generation / FILE).read_text("utf-8").strip()
    return None
