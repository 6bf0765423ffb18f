"""Keep a site's most important pages at 200 OK while the backend behind them leaks, restarts or dies."""

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
