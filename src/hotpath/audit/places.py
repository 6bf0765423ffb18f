"""Places in the code that add to a container or take from it, before it is known which one that is."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from hotpath.audit.scopes import Scope

# What encloses a statement: a condition and whether it holds there, or what a loop goes through and None.
Tests = tuple[tuple[ast.expr, bool | None], ...]


@dataclass(slots=True, eq=False)
class Grow:
    """One place that may add to something. ``keys`` decide whether a new entry is made; ``tests`` enclose it."""

    scope: Scope
    receiver: ast.expr
    operation: str
    keys: tuple[ast.expr, ...]
    value: ast.expr | None
    line: int
    tests: Tests
    nested: bool = False
    reads: bool = False  # X[key] as a value, which adds to a defaultdict


@dataclass(slots=True, eq=False)
class Shrink:
    """One place that takes something out, looks at how much there is, or puts a new container in its place."""

    scope: Scope
    receiver: ast.expr
    line: int
    tests: Tests
