"""Functions that a site gives, and that are called where nothing can be awaited."""

from __future__ import annotations

import inspect


def is_plain(given: object) -> bool:
    """Whether it can be called and returns its result; a coroutine function would be called and never awaited."""
    called = getattr(given, "__call__", None)  # noqa: B004  the method is looked into
    return called is not None and not inspect.iscoroutinefunction(given) and not inspect.iscoroutinefunction(called)
