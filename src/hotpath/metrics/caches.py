"""What Prometheus scrapes of the bounded caches of this process, each by its name."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from hotpath.caching.lru import stats


class CacheCollector(Collector):
    """Give it to a registry: ``registry.register(CacheCollector())``. Name caches that live long: ``name=``."""

    def collect(self) -> Iterator[Metric]:
        """The figures of this moment; nothing while there is no cache."""
        found = stats()
        if not found:
            return
        for field, text in (
            ("entries", "Entries that a cache holds."),
            ("bytes", "Bytes that a cache accounts for; 0 where it has no max_bytes."),
        ):
            gauge = GaugeMetricFamily(f"hotpath_cache_{field}", text, labels=["cache"])
            for name, figures in found.items():
                gauge.add_metric([name], figures[field])
            yield gauge
        for field, text in (
            ("hits", "Lookups that a cache answered."),
            ("misses", "Lookups that it did not."),
            ("evictions", "Entries that went to make room."),
        ):
            counter = CounterMetricFamily(f"hotpath_cache_{field}", text, labels=["cache"])
            for name, figures in found.items():
                counter.add_metric([name], figures[field])
            yield counter
