"""What Prometheus reads is what the process serves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette

from hotpath.asgi.client import asgi_get
from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.run import build
from hotpath.caching.lru import LRUCache
from hotpath.errors import DeclarationError
from hotpath.metrics.app import MetricsApp
from hotpath.metrics.site import HotpathCollector
from hotpath.metrics.slot import own_slot
from hotpath.serving import reader_of
from hotpath.serving.usage import Usage
from hotpath.site import Hotpath
from tests.guard.fakes import Rigged
from tests.store.faults.sites import edit

pytestmark = pytest.mark.usefixtures("items_in_this_process")


@pytest.fixture
def hot(tmp_path: Path) -> Hotpath:
    hot = Hotpath(tmp_path / "hot", lifetime="1h")
    hot.route("/p/{i}", each={"i": [1, 2, 3]})(lambda i: {"i": i})
    hot.route("/short", lifetime="1s")(lambda: {"short": True})
    return hot


@pytest.fixture
def scrape(hot: Hotpath) -> Callable[[], dict[str, float]]:
    registry = CollectorRegistry()
    registry.register(HotpathCollector(hot))

    def read() -> dict[str, float]:
        return {
            sample.name: sample.value
            for family in registry.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    return read


def test_before_the_first_generation(hot: Hotpath, scrape: Callable[[], dict[str, float]]) -> None:
    found = scrape()
    assert "hotpath_generation" not in found
    assert found["hotpath_items"] == 0


def test_generation_age_items_pin_and_stale(hot: Hotpath, scrape: Callable[[], dict[str, float]]) -> None:
    build(hot)
    build(hot)
    reader_of(hot).refresh()
    found = scrape()
    assert found["hotpath_generation"] == 2
    assert 0 <= found["hotpath_generation_age_seconds"] < 60
    assert (found["hotpath_items"], found["hotpath_pinned"], found["hotpath_degraded"]) == (4, 0, 0)
    assert found["hotpath_body_bytes"] > 0
    hot.store.pin(1)
    reader_of(hot).refresh()
    found = scrape()
    assert (found["hotpath_generation"], found["hotpath_pinned"]) == (1, 1)
    assert found["hotpath_stale_items"] in (0, 1)
    reader_of(hot).loader.clock = lambda: hot.store.clock() + 100
    assert scrape()["hotpath_stale_items"] == 1
    reader_of(hot).loader.clock = lambda: hot.store.clock() + 4000
    assert scrape()["hotpath_stale_items"] == 4


def test_damage_is_counted_and_degraded_is_told(hot: Hotpath, scrape: Callable[[], dict[str, float]]) -> None:
    build(hot)
    build(hot)
    for path in hot.store.files_path(2).rglob("*"):
        if path.name.startswith("short"):
            path.unlink()
            edit(path, b"?")
    reader_of(hot).refresh()
    assert scrape()["hotpath_corrupt_items_total"] == 1
    edit(hot.store.manifest_path(2), b"?")
    hot.store.current_path.touch()
    reader_of(hot).refresh()
    assert (scrape()["hotpath_degraded"], scrape()["hotpath_generation"]) == (1, 1)


def test_the_text_form(hot: Hotpath) -> None:
    build(hot)
    reader_of(hot).refresh()
    registry = CollectorRegistry()
    registry.register(HotpathCollector(hot))
    text = generate_latest(registry).decode("utf-8")
    assert "# TYPE hotpath_generation gauge\nhotpath_generation 1.0" in text
    assert "# TYPE hotpath_corrupt_items_total counter" in text


def hot_requests(hot: Hotpath, guard: Any = None) -> dict[tuple[str, str], float]:
    """The counter by route and result."""
    registry = CollectorRegistry()
    registry.register(HotpathCollector(hot, guard=guard))
    return {
        (sample.labels["route"], sample.labels["result"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "hotpath_hot_requests_total"
    }


async def nobody(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def ask(app: HotpathMiddleware, target: str, *headers: tuple[bytes, bytes], method: str = "GET") -> int:
    return asyncio.run(asgi_get(app, target, headers=headers, method=method)).status


ALL_RESULTS = {("/p/{i}", "hit"): 5, ("/p/{i}", "not_modified"): 2, ("/p/{i}", "refused"): 3,
               ("/p/{i}", "redirect"): 1, ("/short", "hit"): 1}  # fmt: skip


def ask_all(app: HotpathMiddleware) -> None:
    """One of everything; what the app answers is not counted."""
    statuses = [
        ask(app, "/p/1"),
        ask(app, "/p/2"),
        ask(app, "/p/2?utm_a=1"),
        ask(app, "/p/3", method="HEAD"),
        ask(app, "/p/1", (b"range", b"bytes=0-1")),
        ask(app, "/p/1", (b"if-none-match", b"*")),
        ask(app, "/p/1", (b"if-none-match", b"*"), method="HEAD"),
        ask(app, "/p/1", (b"if-match", b'"x"')),
        ask(app, "/p/1", (b"range", b"bytes=-0")),
        ask(app, "/p/1", (b"accept-encoding", b"*;q=0")),
        ask(app, "/p/1/"),
        ask(app, "/short"),
        ask(app, "/nothing"),
        ask(app, "/p/1", method="POST"),
    ]
    assert statuses == [200, 200, 200, 200, 206, 304, 304, 412, 416, 406, 308, 200, 404, 404]


@pytest.mark.parametrize("max_body_bytes", [9000, 64 * 1024 * 1024])
def test_hot_requests_by_route_and_result_never_fall(tmp_path: Path, max_body_bytes: int) -> None:
    """Also where pages are replaced by a generation, put out of memory, or covered by a file."""
    hot = Hotpath(tmp_path / "hot", refresh=3600, redirect_slashes=True, max_body_bytes=max_body_bytes)
    hot.route("/p/{i}", each={"i": [1, 2, 3]})(lambda i: {"i": i})
    hot.route("/short")(lambda: {"short": True})
    hot.directory("/p/{i}/file", tmp_path / "{i}.json")
    build(hot)
    app = HotpathMiddleware(nobody, hot=hot)
    ask_all(app)
    assert hot_requests(hot) == ALL_RESULTS
    build(hot)
    reader_of(hot).refresh()
    assert hot_requests(hot) == ALL_RESULTS
    ask_all(app)
    assert hot_requests(hot) == {key: 2 * count for key, count in ALL_RESULTS.items()}
    reader_of(hot).loader.shrink(0.25)
    assert hot_requests(hot) == {key: 2 * count for key, count in ALL_RESULTS.items()}
    reader_of(hot).close()


def test_a_file_that_goes_keeps_its_count(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    edit(path, b"[1]")
    os.utime(path, (1, 1))
    hot = Hotpath(tmp_path / "hot", refresh=3600)
    hot.directory("/{name}", tmp_path / "{name}.json")
    app = HotpathMiddleware(nobody, hot=hot)
    assert ask(app, "/a") == 200
    path.unlink()
    for _ in range(3):
        reader_of(hot).refresh()
    assert ask(app, "/a") == 404
    assert hot_requests(hot) == {("/{name}", "hit"): 1}
    reader_of(hot).close()


def test_a_count_between_two_places_is_not_a_fall(hot: Hotpath) -> None:
    build(hot)
    reader_of(hot).start()
    (page,) = (page for page in reader_of(hot).snapshot.pages.values() if page.key == "/short")
    page.refusals = 3
    usage = Usage()
    assert usage.totals([page]) == {("/short", "refused"): 3}
    assert usage.totals([]) == {("/short", "refused"): 3}
    usage.retire(page)
    assert usage.totals([]) == {("/short", "refused"): 3}
    reader_of(hot).close()


def test_one_registry_has_the_metrics_once() -> None:
    registry = CollectorRegistry()
    MetricsApp(registry=registry)
    with pytest.raises(DeclarationError, match="make one MetricsApp"):
        MetricsApp(registry=registry)
    assert MetricsApp().registry is not MetricsApp().registry


@pytest.mark.parametrize("framework", [FastAPI, Starlette])
def test_a_route_answers_a_scrape_without_a_redirect(hot: Hotpath, framework: Any) -> None:
    app = framework()
    app.add_route("/metrics", MetricsApp(hot=hot))
    for method in ("GET", "HEAD"):
        answer = asyncio.run(asgi_get(app, "/metrics", method=method))
        assert (answer.status, b"hotpath_items" in answer.body) == (200, method == "GET")


def test_counters_carry_the_slot_of_the_worker() -> None:
    """Two workers behind one port are scraped in turn: without a label a counter would jump."""
    guard = Rigged().guard
    cache: LRUCache[str, int] = LRUCache(10, name="of this test")
    cache["a"] = 1
    for given, slot in ((guard, own_slot(guard)), (None, "none")):
        text = generate_latest(MetricsApp(guard=given).registry).decode()
        assert f'hotpath_cache_entries{{cache="of this test",slot="{slot}"}} 1.0' in text


def test_what_waits_in_quarantine_is_counted_until_a_newer_generation(
    hot: Hotpath, scrape: Callable[[], dict[str, float]]
) -> None:
    build(hot)
    reader_of(hot).refresh()
    assert scrape()["hotpath_quarantined"] == 0
    (hot.store.quarantine_path / "2").mkdir(parents=True)
    assert scrape()["hotpath_quarantined"] == 1
    build(hot)
    reader_of(hot).refresh()
    assert scrape()["hotpath_generation"] == 3
    assert scrape()["hotpath_quarantined"] == 0


def test_a_quarantine_that_cannot_be_read_has_no_count(hot: Hotpath, scrape: Callable[[], dict[str, float]]) -> None:
    build(hot)
    hot.store.quarantine_path.write_text("a file")
    assert "hotpath_quarantined" not in scrape()
