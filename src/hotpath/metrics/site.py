"""What Prometheus scrapes of a site: which generation is served, how old it is, and what is wrong with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from hotpath.errors import HotpathError
from hotpath.guard.guard import MemoryGuard
from hotpath.metrics.slot import own_slot
from hotpath.serving.origin_record import origin_record
from hotpath.serving.reader import reader_of
from hotpath.site import Hotpath


class HotpathCollector(Collector):
    """Give it to a registry: ``registry.register(HotpathCollector(hot, guard=guard))``.

    ``guard`` says which worker it is: counters are of the worker that is scraped, and ``slot`` tells them apart.
    Everything is read from memory when it is scraped, and nothing is counted a second time; of the disk only the names
    in the quarantine are read, and the record of what follows the origin.
    """

    def __init__(
        self, hot: Hotpath, *, guard: MemoryGuard | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._hot = hot
        self._guard = guard
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment. Before the first generation only those that have a value."""
        loader = reader_of(self._hot).loader
        snapshot = loader.snapshot
        if snapshot.generation is not None and snapshot.created is not None:
            # A clock that went back must not give a negative age.
            age = max(0.0, self._clock() - snapshot.created)
            yield _gauge("generation", "The number of the generation that is served.", snapshot.generation)
            yield _gauge("generation_age_seconds", "Seconds since the generation was made.", age)
        yield _gauge("pinned", "1 while a pin keeps newer generations from being served.", loader.pinned)
        yield _gauge("degraded", "1 while another generation than the wanted one is served.", bool(loader.degraded))
        yield _gauge("items", "Keys that are answered without the app.", len(loader.keys))
        waiting = self._quarantined(snapshot.generation or 0)
        if waiting is not None:
            yield _gauge("quarantined", "Generations in quarantine that are newer than the served one.", waiting)
        yield _gauge("stale_items", "Items past their lifetime, which are served all the same.", loader.stale_items)
        yield _gauge("body_bytes", "Bytes of memory that loaded pages account for.", loader.body_bytes)
        corrupt = CounterMetricFamily(
            "hotpath_corrupt_items",
            "Items whose bytes on disk were not what was published, when they were read.",
            labels=["slot"],
        )
        yield from self._origin()
        slot = own_slot(self._guard)
        corrupt.add_metric([slot], loader.corrupt_items)
        yield corrupt
        requests = CounterMetricFamily(
            "hotpath_hot_requests", "Requests that a hot page answered.", labels=["slot", "route", "result"]
        )
        for (route, result), count in sorted(loader.answers.items()):
            requests.add_metric([slot, route, result], count)
        yield requests

    def _origin(self) -> Iterator[Metric]:
        """What the follower of this machine saw last, whichever process that is; nothing where there is none."""
        record = origin_record(self._hot)
        if record is None:
            return
        now = self._clock()
        if record.origin_generation is not None:
            yield _gauge("origin_generation", "The generation that the origin names.", record.origin_generation)
        lag = record.lag_seconds(now)
        yield _gauge("origin_lag_seconds", "Since when this machine is behind its origin; 0: it is not.", lag)
        yield _gauge("origin_look_age_seconds", "Seconds since the origin was last asked.", record.age_seconds(now))
        yield _gauge(
            "origin_failing", "1 while the last look at the origin failed; the log says why.", bool(record.error)
        )
        yield _gauge("origin_unsent", "1 while what is served here is not at the origin yet.", record.is_ahead)

    def _quarantined(self, served: int) -> int | None:
        try:
            return sum(sequence > served for sequence in self._hot.store.quarantined())
        except (HotpathError, OSError):
            return None


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"hotpath_{name}", documentation, value=value)
