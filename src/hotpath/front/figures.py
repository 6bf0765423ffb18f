"""What Prometheus scrapes of the front."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from hotpath.asgi.last_good.middleware import LastGood
from hotpath.front.door import Door
from hotpath.front.last_good import figures
from hotpath.front.server import FrontServer
from hotpath.front.supervisor import Supervisor
from hotpath.front.upstream import Upstream
from hotpath.guard.route_costs import route_of
from hotpath.types import Scope

# Templates that have a label of their own; paths that clients make up share one.
MAX_ROUTES: Final = 100
OTHER: Final = "other"
# Paths whose template is kept: to find it takes as long as all else that is counted.
MAX_PATHS: Final = 1024
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Latency(Collector):
    """How long the app takes to begin its answer, by route: the path with ``{}`` for what looks like a parameter.

    Counted here and not in a ``Histogram``, whose locks and labels take as long as the rest of a short way.
    """

    def __init__(self) -> None:
        self._by_route: dict[str, _Histogram] = {}
        self._by_path: dict[tuple[str, str], _Histogram] = {}
        # By the first digit of the status, of which there are nine.
        self._classes = [0] * 10

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """One answer of the app. A path that it does not know is no route."""
        if status == 404:
            histogram = self._of(OTHER)
        else:
            known = (scope["method"], scope["path"])
            if known not in self._by_path:
                if len(self._by_path) >= MAX_PATHS:
                    self._by_path.clear()
                self._by_path[known] = self._of(route_of(*known))
            histogram = self._by_path[known]
        histogram.counts[bisect_left(BUCKETS, seconds)] += 1
        histogram.seconds += seconds
        self._classes[status // 100] += 1

    def collect(self) -> Iterator[Metric]:
        """The histograms of all routes, and answers by class."""
        family = HistogramMetricFamily(
            "hotpath_front_app_seconds", "From the head of a request to the head of the app's answer.", labels=["route"]
        )
        names = [*map(floatToGoString, (*BUCKETS, float("inf")))]
        for route, histogram in self._by_route.items():
            family.add_metric(
                [route], [*zip(names, accumulate(histogram.counts), strict=True)], sum_value=histogram.seconds
            )
        yield family
        answers = CounterMetricFamily(
            "hotpath_front_app_answers", "Answers of the app, by class of status.", labels=["class"]
        )
        # A rate has its zero from the start, not only from the first error on.
        for digit in range(1, 6):
            answers.add_metric([f"{digit}xx"], self._classes[digit])
        yield answers

    def _of(self, route: str) -> _Histogram:
        if route not in self._by_route:
            if len(self._by_route) >= MAX_ROUTES:
                route = OTHER
            self._by_route.setdefault(route, _Histogram())
        return self._by_route[route]


class _Histogram:
    """``counts`` by bucket, the last of them for what is above all; and the sum of the seconds."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0


class FrontCollector(Collector):
    """Counters and gauges of the door, of what is passed on, and of the app where it is a child."""

    def __init__(
        self,
        door: Door,
        server: FrontServer,
        upstream: Upstream,
        supervisor: Supervisor | None,
        last_good: LastGood | None,
    ) -> None:
        self._door = door
        self._server = server
        self._upstream = upstream
        self._supervisor = supervisor
        self._last_good = last_good

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
        if self._last_good is not None:
            yield from figures(self._last_good)
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
