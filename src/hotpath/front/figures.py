"""What Prometheus scrapes of the front itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from prometheus_client import CollectorRegistry, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from hotpath.front.app_process import AppProcess
from hotpath.front.door import Door
from hotpath.front.server import FrontServer
from hotpath.front.upstream import Upstream
from hotpath.types import Scope


class FrontCollector(Collector):
    """Counters and states of the door, the way to the app, and the app's process."""

    def __init__(self, door: Door, server: FrontServer, upstream: Upstream, app: AppProcess | None) -> None:
        self._door, self._server, self._upstream, self._app = door, server, upstream, app

    def collect(self) -> Iterator[Metric]:
        """The figures of this moment."""
        door, upstream = self._door, self._upstream
        yield _counter("door_hits", "Answers that the door gave.", door.hits)
        yield _counter("door_handed_over", "Connections that went from the door to the event loop.", door.handed_over)
        yield _gauge("connections", "Open connections, at the door and behind it.", door.open + self._server.open)
        for field in fields(upstream.counters):
            value = getattr(upstream.counters, field.name)
            yield _counter(f"requests_{field.name}", "Requests on their way to the app, by what became of them.", value)
        yield _gauge("in_flight", "Requests in the app.", upstream.in_flight)
        yield _gauge("held", "Requests that wait because the app is down or paused.", upstream.held)
        yield _gauge("waiting", "Requests that wait because the app has enough to do.", upstream.waiting)
        yield _gauge("app_up", "1 while the app takes connections.", upstream.is_up)
        yield _gauge("paused", "1 while everything cold waits on purpose.", upstream.is_paused)
        if self._app is not None:
            yield _counter("app_restarts", "Ends of the app that nobody asked for.", self._app.restarts.total)
            yield _counter("app_deploys", "New versions that took over.", self._app.deploys)
            yield _counter("app_failed_deploys", "New versions that did not start.", self._app.failed_deploys)


def register(registry: CollectorRegistry, collector: FrontCollector, upstream: Upstream) -> None:
    """All figures of a front, with the time that the app takes by method and class of status."""
    registry.register(collector)
    seconds = Histogram(
        "hotpath_front_app_seconds",
        "Seconds from a request's head to the head of the app's answer.",
        ["method", "status"],
        registry=registry,
    )

    def observe(scope: Scope, status: int, taken: float) -> None:
        method = scope.get("method", "WEBSOCKET")
        known = method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
        seconds.labels(known, f"{status // 100}xx").observe(taken)

    upstream.observe = observe


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    family = CounterMetricFamily(f"hotpath_front_{name}", text)
    family.add_metric([], value)
    return family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"hotpath_front_{name}", text)
    family.add_metric([], value)
    return family
