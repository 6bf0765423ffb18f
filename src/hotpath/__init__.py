"""Keep a site's most important pages at 200 OK while the backend behind them leaks, restarts or dies."""

from hotpath.cache import LRUCache, TTLCache
from hotpath.errors import HotpathError
from hotpath.guard import MemoryGuard
from hotpath.memoize import cached
from hotpath.middleware import HotpathMiddleware
from hotpath.site import Hotpath
from hotpath.store import Store

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
