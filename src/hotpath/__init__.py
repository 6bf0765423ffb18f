"""Keep a site's most important pages at 200 OK while the backend behind them leaks, restarts or dies."""

from hotpath.errors import HotpathError
from hotpath.middleware import HotpathMiddleware
from hotpath.site import Hotpath
from hotpath.store import Store

__all__ = ["Hotpath", "HotpathError", "HotpathMiddleware", "Store", "__version__"]

__version__ = "0.1.0"
