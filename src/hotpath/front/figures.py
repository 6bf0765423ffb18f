"""What Prometheus scrapes of the front."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from hotpath.front.door import Door
from hotpath.front.server import FrontServer
from hotpath.front.supervisor import Supervisor
from hotpath.front.upstream import Upstream
from hotpath.guard.route_costs import route_of
from hotpath.types import Scope

# Templates that have a label of their own; paths that clients make up share one.
MAX_ROUTES: Final = 100
OTHER: Final = "other"
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Latency:
    """How long the app takes to begin its answer, by route: the path with ``{}`` for what looks like a parameter.

    Answers are counted by the class of their status too: ``2xx``.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._routes: set[str] = set()
        self._seconds = Histogram(
            "hotpath_front_app_seconds",
            "From the head of a request to the head of the app's answer.",
            ["route"],
            registry=registry,
            buckets=BUCKETS,
        )
        self._answers = Counter(
            "hotpath_front_app_answers", "Answers of the app, by class of status.", ["class"], registry=registry
        )
        # A rate has its zero from the start, not only from the first error on.
        for status in range(1, 6):
            self._answers.labels(f"{status}xx")

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """One answer of the app. A path that it does not know is no route."""
        route = route_of(scope["method"], scope["path"]) if status != 404 else OTHER
        if route not in self._routes:
            if len(self._routes) >= MAX_ROUTES:
                route = OTHER
            self._routes.add(route)
        self._seconds.labels(route).observe(seconds)
        self._answers.labels(f"{status // 100}xx").inc()


class FrontCollector(Collector):
    """Counters and gauges of the door, of what is passed on, and of the app where it is a child."""

    def __init__(self, door: Door, server: FrontServer, upstream: Upstream, supervisor: Supervisor | None) -> None:
        self._door = door
        self._server = server
        self._upstream = upstream
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        """The figures of this moment."""
        door, upstream, counters = self._door, self._upstream, self._upstream.counters
        yield _counter("hits", "Hot pages that the door answered.", door.hits)
        yield _counter("handed_over", "Connections that went from the door to the event loop.", door.handed_over)
        for name in ("forwarded", "held", "refused", "timed_out", "retried", "bad_gateway", "broken", "cancelled"):
            yield _counter(f"requests_{name}", f"Requests for the app: {name}.", getattr(counters, name))
        connections = GaugeMetricFamily("hotpath_front_connections", "Open connections.", labels=["where"])
        connections.add_metric(["door"], door.open)
        connections.add_metric(["loop"], self._server.open)
        yield connections
        yield _gauge("in_flight", "Requests in the app.", upstream.in_flight)
        yield _gauge("waiting", "Requests that wait because the app has enough to do.", upstream.waiting)
        yield _gauge("holding", "Requests that wait because the app is down or paused.", upstream.held)
        yield _gauge("paused", "1 while 'hotpath pause' holds requests.", upstream.is_paused)
        supervisor = self._supervisor
        yield _gauge(
            "app_up", "1 while the app takes requests.", upstream.is_up if supervisor is None else supervisor.is_up
        )
        if supervisor is not None:
            yield _counter("app_restarts", "Times that the app ended and was started again.", supervisor.restarts)
            yield _counter("deploys", "New versions that took over.", supervisor.deploys)
            yield _counter("failed_deploys", "New versions that did not come up.", supervisor.failed_deploys)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"hotpath_front_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"hotpath_front_{name}", text, value=value)
