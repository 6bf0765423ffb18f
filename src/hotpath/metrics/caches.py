"""Prometheus metrics of the bounded caches of this process, each by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from hotpath.caching.registry import registry
from hotpath.guard.guard import MemoryGuard
from hotpath.metrics.slot import own_slot


class CacheCollector(Collector):
    """Register it with ``registry.register(CacheCollector(guard))``. Give caches that live long a ``name=``.

    ``guard`` says which worker it is, so that scrapes that reach one after the other are told apart by ``slot``.
    """

    def __init__(self, guard: MemoryGuard | None = None) -> None:
        self._guard = guard

    def collect(self) -> Iterator[Metric]:
        """The figures of this moment; none while there is no cache."""
        caches = registry.stats()
        if not caches:
            return
        for field, text in (
            ("entries", "Entries in the cache."),
            ("bytes", "Bytes of all entries; 0 without max_bytes."),
        ):
            yield _family(GaugeMetricFamily, field, text, own_slot(self._guard), caches)
        for field, text in (
            ("hits", "Lookups that the cache answered."),
            ("misses", "Lookups that the cache did not answer."),
            ("evictions", "Entries taken out to make room."),
        ):
            yield _family(CounterMetricFamily, field, text, own_slot(self._guard), caches)


def _family(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    field: str,
    text: str,
    slot: str,
    caches: Mapping[str, Mapping[str, int]],
) -> Metric:
    family = kind(f"hotpath_cache_{field}", text, labels=["slot", "cache"])
    for name, figures in caches.items():
        family.add_metric([slot, name], figures[field])
    return family
