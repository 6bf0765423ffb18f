"""What a framework wants done in a worker before each item, as it does before each request."""

from __future__ import annotations

from collections.abc import Callable

_hooks: list[Callable[[], object]] = []


def before_each_item(hook: Callable[[], object]) -> None:
    """Call ``hook`` in the worker before each item; what it raises is the item's failure."""
    if hook not in _hooks:
        _hooks.append(hook)


def run_hooks() -> None:
    """Call all hooks, in the order in which they were registered."""
    for hook in _hooks:
        hook()
