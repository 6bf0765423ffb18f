"""The ASGI door."""

from hotpath.asgi.access_log import AccessLog, HotpathRequest, Observer
from hotpath.asgi.health import HealthEndpoints
from hotpath.asgi.middleware import HotpathMiddleware

__all__ = ["AccessLog", "HealthEndpoints", "HotpathMiddleware", "HotpathRequest", "Observer"]
