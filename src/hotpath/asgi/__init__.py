"""The ASGI door."""

import importlib
from typing import TYPE_CHECKING

from hotpath.asgi.access_log import AccessLog, HotpathRequest, Observer
from hotpath.asgi.middleware import HotpathMiddleware

if TYPE_CHECKING:
    from hotpath.asgi.health import HealthEndpoints
    from hotpath.asgi.last_good.middleware import LastGood

__all__ = ["AccessLog", "HealthEndpoints", "HotpathMiddleware", "HotpathRequest", "LastGood", "Observer"]

_LAZY = {"HealthEndpoints": "hotpath.asgi.health", "LastGood": "hotpath.asgi.last_good.middleware"}


def __getattr__(name: str) -> object:
    """Starlette, for ``HealthEndpoints``, and SQLite, for ``LastGood``, are loaded by those who use them."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
