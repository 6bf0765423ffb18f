"""Keep a site's most important pages at 200 OK while the backend behind them leaks, restarts or dies."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hotpath.asgi.middleware import HotpathMiddleware
    from hotpath.caching.lru import LRUCache
    from hotpath.caching.memoize import cached
    from hotpath.caching.ttl import TTLCache
    from hotpath.errors import HotpathError
    from hotpath.guard.guard import MemoryGuard
    from hotpath.site import Hotpath
    from hotpath.store.store import Store

__all__ = [
    "Hotpath",
    "HotpathError",
    "HotpathMiddleware",
    "LRUCache",
    "MemoryGuard",
    "Store",
    "TTLCache",
    "__version__",
    "cached",
]

__version__ = "0.1.0"

# Imported when first asked for, so that a batch loads no middleware and a web process no batch.
_MODULES = {
    "Hotpath": "hotpath.site",
    "HotpathError": "hotpath.errors",
    "HotpathMiddleware": "hotpath.asgi.middleware",
    "LRUCache": "hotpath.caching.lru",
    "MemoryGuard": "hotpath.guard.guard",
    "Store": "hotpath.store.store",
    "TTLCache": "hotpath.caching.ttl",
    "cached": "hotpath.caching.memoize",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
