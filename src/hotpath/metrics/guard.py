"""What Prometheus scrapes of a memory guard: the memory of the group, and each worker by its slot.

Slots are numbers from 0 on that a dead worker's successor takes over, so a label has few values however often workers
are replaced. The gauges that all workers write into the page they share are of all of them; counters only of the worker
that is scraped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from hotpath.guard.guard import MemoryGuard
from hotpath.guard.states import State
from hotpath.metrics.slot import own_slot


class GuardCollector(Collector):
    """Give it to a registry: ``registry.register(GuardCollector(guard))``. Nothing waits for the guard's thread."""

    def __init__(self, guard: MemoryGuard) -> None:
        self._guard = guard

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry then does not collect before the guard has started."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment. Before the first sample only those that have a value."""
        yield from self._memory()
        yield from self._workers()
        yield from self._counters()

    def _memory(self) -> Iterator[Metric]:
        guard = self._guard
        reading, outlook = guard.reading, guard.outlook
        if reading is not None and outlook is not None:
            for name, text, value in (
                ("memory_limit_bytes", "The limit that is nearest to being reached.", reading.limit),
                ("memory_usage_bytes", "What the kernel counts, page cache too.", reading.usage),
                ("memory_unreclaimable_bytes", "What the kernel cannot take back.", reading.unreclaimable),
                ("memory_headroom_bytes", "What may still be allocated.", outlook.headroom),
                ("memory_growth_bytes_per_second", "Median growth of the last samples.", outlook.growth),
                (
                    "memory_time_to_exhaustion_seconds",
                    "When memory ends at the present growth; +Inf when it does not.",
                    outlook.seconds_left,
                ),
            ):
                yield GaugeMetricFamily(f"hotpath_{name}", text, value=value)
        yield GaugeMetricFamily(
            "hotpath_guard_sample_age_seconds",
            "How old the newest sample is; 5 and more: the guard does not see.",
            value=guard.sample_age_seconds,
        )
        kills = guard.reader.oom_kills()
        if kills is not None:
            yield CounterMetricFamily(
                "hotpath_cgroup_oom_kills", "Processes of the control group that the kernel has killed.", value=kills
            )

    def _workers(self) -> Iterator[Metric]:
        guard, own = self._guard, own_slot(self._guard)
        resident = [] if guard.reading is None else [((own,), guard.reading.resident)]
        # The own values are newer than what the page says of this worker.
        workers = {own: (int(guard.state), guard.unique_bytes or 0, guard.admission.in_flight)}
        for worker in guard.recycling.workers():
            workers.setdefault(str(worker.slot), (worker.state, worker.unique_bytes, worker.in_flight))
        states = [
            ((slot, state.name.lower()), state == number) for slot, (number, _, _) in workers.items() for state in State
        ]
        unique = [((slot,), held) for slot, (_, held, _) in workers.items()]
        flights = [((slot,), running) for slot, (_, _, running) in workers.items()]
        for name, text, labels, rows in (
            ("worker_resident_bytes", "Resident size of a worker.", (), resident),
            ("worker_unique_bytes", "What a worker holds, with its share of what is shared.", (), unique),
            ("guard_state", "1 for the state that the guard of a worker is in.", ("state",), states),
            ("requests_in_flight", "Requests in the app.", (), flights),
            (
                "event_loop_lag_seconds",
                "How late the event loop was lately; a peak that fades.",
                (),
                [((own,), guard.loop_lag_seconds)],
            ),
        ):
            yield _filled(GaugeMetricFamily(f"hotpath_{name}", text, labels=["slot", *labels]), rows)

    def _counters(self) -> Iterator[Metric]:
        guard, own = self._guard, own_slot(self._guard)
        transitions = [
            ((own, before.name.lower(), after.name.lower(), reason), count)
            for (before, after, reason), count in list(guard.transitions.items())
        ]
        shed = [((own, *labels), count) for labels, count in list(guard.admission.shed.items())]
        released = [((own, method), count) for method, count in guard.trimmer.released_bytes.items()]
        recycles = [((own, reason), count) for reason, count in list(guard.recycling.begun.items())]
        for name, text, labels, rows in (
            ("guard_transitions", "Changes of the guard's state.", ("from", "to", "reason"), transitions),
            ("requests_shed", "Requests that the guard refused.", ("priority", "reason"), shed),
            ("guard_released_bytes", "Memory that trimming gave back.", ("method",), released),
            ("worker_recycles", "Times that this worker left for a fresh one.", ("reason",), recycles),
        ):
            yield _filled(CounterMetricFamily(f"hotpath_{name}", text, labels=["slot", *labels]), rows)


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, rows: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily | CounterMetricFamily:
    for labels, value in rows:
        family.add_metric(labels, float(value))
    return family
