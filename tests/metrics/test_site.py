"""What Prometheus reads is what the process serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from hotpath.batch.run import build
from hotpath.metrics.site import HotpathCollector
from hotpath.serving import reader_of
from hotpath.site import Hotpath


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
            path.write_bytes(b"?")
    reader_of(hot).refresh()
    assert scrape()["hotpath_corrupt_items_total"] == 1
    hot.store.manifest_path(2).write_bytes(b"?")
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
