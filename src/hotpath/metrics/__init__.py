"""What Prometheus scrapes."""

from hotpath.metrics.app import MetricsApp
from hotpath.metrics.caches import CacheCollector
from hotpath.metrics.guard import GuardCollector
from hotpath.metrics.site import HotpathCollector

__all__ = ["CacheCollector", "GuardCollector", "HotpathCollector", "MetricsApp"]
