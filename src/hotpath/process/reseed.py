"""Random generators in worker processes: a copy of one gives the same values in each of them."""

from __future__ import annotations

import random
import sys
from typing import Any


def reseed_shared() -> None:
    """Seed the generators that everybody shares, from the system: those of ``random`` and, where loaded, numpy."""
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def reseed_modules() -> None:
    """Seed each generator that is a global of any module, from the system.

    One that is held elsewhere (in an object, a closure, a class) is not found.
    """
    numpy: Any = sys.modules.get("numpy.random")
    seen = set()
    for module in list(sys.modules.values()):
        for value in list(getattr(module, "__dict__", {}).values()):
            # Not isinstance(): it asks objects that stand for others for their class, and they are made then.
            kind = type(value)
            if id(value) in seen:
                continue
            if issubclass(kind, random.Random) or (numpy and issubclass(kind, numpy.RandomState)):
                value.seed()
            elif numpy and issubclass(kind, numpy.Generator):
                value.bit_generator.state = type(value.bit_generator)().state
            else:
                continue
            seen.add(id(value))
