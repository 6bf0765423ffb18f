"""The ASGI door."""

import importlib
from typing import TYPE_CHECKING

from hotpath.asgi.access_log import AccessLog, HotpathRequest, Observer
from hotpath.asgi.middleware import HotpathMiddleware

if TYPE_CHECKING:
    from hotpath.asgi.health import HealthEndpoints

__all__ = ["AccessLog", "HealthEndpoints", "HotpathMiddleware", "HotpathRequest", "Observer"]


def __getattr__(name: str) -> object:
    """Starlette, which ``HealthEndpoints`` answers with, is loaded by those who use it."""
    if name == "HealthEndpoints":
        return importlib.import_module("hotpath.asgi.health").HealthEndpoints
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
