"""What Prometheus gets: the names of the document, bounded labels, in every state, and as a scraper reads it."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from hotpath.batch.run import build
from hotpath.caching.lru import LRUCache
from hotpath.guard.worker_slots import WorkerSlots
from hotpath.metrics.app import MetricsApp
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.testing import Response, asgi_get
from tests.guard.ending import ended
from tests.guard.fakes import LIMIT, MIB, Rigged, http
from tests.guard.groups import memory_group, needs_groups
from tests.guard.rig import served
from tests.guard.waiting import wait_until

NAMES = {
    "hotpath_memory_limit_bytes",
    "hotpath_memory_usage_bytes",
    "hotpath_memory_unreclaimable_bytes",
    "hotpath_memory_headroom_bytes",
    "hotpath_memory_growth_bytes_per_second",
    "hotpath_memory_time_to_exhaustion_seconds",
    "hotpath_worker_resident_bytes",
    "hotpath_worker_unique_bytes",
    "hotpath_guard_state",
    "hotpath_guard_transitions_total",
    "hotpath_guard_sample_age_seconds",
    "hotpath_requests_shed_total",
    "hotpath_requests_in_flight",
    "hotpath_event_loop_lag_seconds",
    "hotpath_guard_released_bytes_total",
    "hotpath_worker_recycles_total",
    "hotpath_cgroup_oom_kills_total",
}


CACHE_NAMES = {
    f"hotpath_cache_{name}" for name in ("entries", "bytes", "hits_total", "misses_total", "evictions_total")
}


@pytest.fixture
def rigged() -> Rigged:
    rigged = Rigged()
    rigged.see(0.95, samples=2)
    rigged.guard.admission.enter(http())
    rigged.guard.admission.enter(http("/livez"))
    rigged.guard.recycling.begun["brake_deadline"] += 1
    return rigged


def scrape(app: MetricsApp, **options: Any) -> Response:
    return asyncio.run(asgi_get(app, "/metrics", **options))


def samples(answer: Response) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_the_names_are_those_of_the_document(rigged: Rigged) -> None:
    assert {name for name, _ in samples(scrape(MetricsApp(guard=rigged.guard)))} - CACHE_NAMES == NAMES


def test_each_cache_by_its_name(rigged: Rigged) -> None:
    cache: LRUCache[int, bytes] = LRUCache(max_entries=2, name="scraped")
    for number in range(3):
        cache[number] = b"x"
    assert cache.get(2) == b"x"
    assert cache.get(0) is None
    found = samples(scrape(MetricsApp()))
    values = {name: found[name, (("cache", "scraped"), ("slot", "none"))] for name in CACHE_NAMES}
    assert values["hotpath_cache_entries"] == 2
    assert values["hotpath_cache_evictions_total"] == 1
    assert (values["hotpath_cache_hits_total"], values["hotpath_cache_misses_total"]) == (1, 1)


def test_the_values(rigged: Rigged) -> None:
    found = samples(scrape(MetricsApp(guard=rigged.guard)))
    assert found["hotpath_memory_limit_bytes", ()] == LIMIT
    assert found["hotpath_memory_headroom_bytes", ()] == pytest.approx(42 * MIB, abs=MIB)
    slot = ("slot", "none")
    assert found["hotpath_guard_state", (slot, ("state", "brake"))] == 1
    assert sum(value for (name, _), value in found.items() if name == "hotpath_guard_state") == 1
    assert found["hotpath_requests_shed_total", (("priority", "P2"), ("reason", "brake"), slot)] == 1
    assert found["hotpath_requests_in_flight", (slot,)] == 1
    labels = (("from", "normal"), ("reason", "usage"), slot, ("to", "brake"))
    assert found["hotpath_guard_transitions_total", labels] == 1


def test_before_the_first_sample_there_is_no_reading_and_no_error() -> None:
    names = {name for name, _ in samples(scrape(MetricsApp(guard=Rigged().guard)))}
    assert "hotpath_memory_limit_bytes" not in names
    assert {"hotpath_guard_state", "hotpath_guard_sample_age_seconds"} <= names


def test_other_workers_are_told_by_slot(rigged: Rigged, tmp_path: Path) -> None:
    guard = rigged.guard
    guard.recycling.slots = WorkerSlots(tmp_path / "slots", clock=rigged.clock)
    guard.recycling.slots.take()
    rigged.see(0.95)
    other = "import sys, time; from pathlib import Path; from hotpath.guard.worker_slots import WorkerSlots\n"
    other += "slots = WorkerSlots(Path(sys.argv[1])); slots.take(); slots.beat(state=2, unique_bytes=7, in_flight=3)\n"
    other += "print(flush=True); time.sleep(60)"
    command = [sys.executable, "-c", other, str(tmp_path / "slots")]
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = samples(scrape(MetricsApp(guard=guard)))
        assert found["hotpath_worker_unique_bytes", (("slot", "1"),)] == 7
        assert found["hotpath_requests_in_flight", (("slot", "1"),)] == 3
        assert found["hotpath_guard_state", (("slot", "1"), ("state", "shed"))] == 1
        assert found["hotpath_guard_state", (("slot", "0"), ("state", "brake"))] == 1
    guard.recycling.slots.release()


def test_slots_that_cannot_be_used_cost_no_scrape(rigged: Rigged, tmp_path: Path) -> None:
    slots = WorkerSlots(tmp_path / "slots", clock=rigged.clock)
    slots.take()
    rigged.guard.recycling.slots = slots
    slots.path.unlink()
    slots.path.symlink_to(tmp_path / "elsewhere")
    found = samples(scrape(MetricsApp(guard=rigged.guard)))
    assert found["hotpath_guard_state", (("slot", "0"), ("state", "brake"))] == 1
    slots.let_go()


def test_labels_are_bounded_whatever_is_asked(rigged: Rigged) -> None:
    app = MetricsApp(guard=rigged.guard)
    before = len(samples(scrape(app)))
    for number in range(200):
        rigged.guard.admission.enter(http(f"/cold/{number}", "POST" if number % 2 else "GET"))
    assert len(samples(scrape(app))) <= before + 2


def test_own_metrics_share_the_page_and_openmetrics_is_spoken(rigged: Rigged) -> None:
    registry = CollectorRegistry()
    Counter("mine", "of the app", registry=registry).inc()
    app = MetricsApp(guard=rigged.guard, registry=registry)
    assert b"mine_total 1.0" in scrape(app).body
    answer = scrape(app, headers=[(b"accept", b"application/openmetrics-text; version=1.0.0")])
    assert (answer.header("content-type") or "").startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


def test_methods() -> None:
    app = MetricsApp()
    head = scrape(app, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    refused = scrape(app, method="POST")
    assert (refused.status, refused.header("allow")) == (405, "GET, HEAD")


def test_it_answers_while_the_thread_pool_is_full(rigged: Rigged) -> None:
    """Functions of the app that hang take all threads, and that is when somebody looks."""
    released = threading.Event()

    async def hang() -> None:
        await anyio.to_thread.run_sync(released.wait)

    async def main() -> int:
        pool = anyio.to_thread.current_default_thread_limiter().total_tokens
        async with anyio.create_task_group() as group:
            for _ in range(int(pool)):
                group.start_soon(hang)
            with anyio.fail_after(10):
                answer = await asgi_get(MetricsApp(guard=rigged.guard), "/metrics")
            released.set()
        return answer.status

    try:
        assert anyio.run(main) == 200
    finally:
        released.set()


def test_a_scrape_that_takes_long_does_not_hold_up_the_loop() -> None:
    class Slow(Collector):
        def collect(self) -> Iterator[Metric]:
            begun.set()
            assert released.wait(10)
            return iter(())

    begun, released = threading.Event(), threading.Event()
    released.set()  # registering asks it once, too
    app = MetricsApp()
    app.registry.register(Slow())

    async def main() -> int:
        begun.clear()
        released.clear()
        scraping = asyncio.create_task(asgi_get(app, "/metrics"))
        assert await asyncio.to_thread(begun.wait, 10)
        released.set()  # the loop is free while the collector waits, or nobody gets here
        return (await scraping).status

    assert asyncio.run(main()) == 200


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[Hotpath]:
    hot = Hotpath(tmp_path / "hot")
    hot.route("/hot")(lambda: {"hot": True})
    build(hot)
    reader_of(hot).start()
    yield hot
    reader_of(hot).close()


@needs_promtool
def test_promtool_has_no_complaint(rigged: Rigged, hot: Hotpath) -> None:
    cache: LRUCache[int, bytes] = LRUCache(max_entries=2, name="checked")
    cache[1] = b"x"
    scraped = scrape(MetricsApp(guard=rigged.guard, hot=hot)).body
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=scraped, capture_output=True, check=False, timeout=60
    )
    assert (checked.stdout + checked.stderr).decode() == ""
    assert checked.returncode == 0


@pytest.mark.slow
@needs_groups
@needs_prometheus
def test_a_real_prometheus_scrapes_it_under_brake(tmp_path: Path) -> None:
    with memory_group(256 * MIB) as group, served(tmp_path, group, guard={"leave": False}) as rig:
        rig.get("/leak?mib=195")
        rig.await_state("BRAKE")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = tmp_path / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
            f"scrape_configs: [{{job_name: hot, static_configs: [{{targets: ['127.0.0.1:{rig.port}']}}]}}]\n"
        )
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
        command.append(f"--web.listen-address=127.0.0.1:{port}")

        def value(query: str) -> list[Any]:
            try:
                url = f"http://127.0.0.1:{port}/api/v1/query?query={query}"
                with urllib.request.urlopen(url, timeout=2) as answer:
                    return [one["value"][1] for one in json.load(answer)["data"]["result"]]
            except OSError:
                return []

        with ended(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), 120):
            wait_until(lambda: value('hotpath_guard_state{state="brake"}') == ["1"], 60, "nothing was scraped")
            assert value("up") == ["1"]
            assert value("hotpath_memory_limit_bytes") == [str(256 * MIB)]
            assert value("hotpath_generation") == ["1"]
