"""The mark of generations that came from an origin: this machine did not make them."""

from __future__ import annotations

from pathlib import Path

FILE = "from-origin"


def is_foreign(generation: Path) -> bool:
    """Whether the generation in this directory came from an origin."""
    return (generation / FILE).exists()
