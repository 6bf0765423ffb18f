"""``HotpathMiddleware(follow=True)``: the store follows its origin, and nothing that is served depends on it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.run import build
from hotpath.errors import DeclarationError
from hotpath.metrics import HotpathCollector
from hotpath.serving import reader_of
from hotpath.serving.following import following_of
from hotpath.site import Hotpath
from hotpath.store.origin.origin import Origin
from hotpath.testing import asgi_get

SECRET = "hush-this"


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"app"})


def get(site: Any, target: str) -> tuple[int, bytes]:
    response = asyncio.run(asgi_get(site, target))
    return response.status, response.body


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def followers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hotpath-follow"]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An origin that has generation 1."""
    for name in ("HOTPATH_ORIGIN", "HOTPATH_HINTS", "HOTPATH_NAME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "origin").mkdir()
    hot = Hotpath(tmp_path / "builder")
    hot.route("/a")(lambda: {"built": 1})
    build(hot)
    Origin(f"file://{tmp_path}/origin").send(hot.store)
    return f"file://{tmp_path}/origin"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Hotpath]]:
    made: list[Hotpath] = []

    def make(**options: Any) -> Hotpath:
        made.append(Hotpath(tmp_path / "web", refresh=0.02, **options))
        return made[-1]

    yield make
    for hot in made:
        reader_of(hot).close()
        following = following_of(hot) if hot.sharing.effective().origin is not None else None
        assert following is None or following.stop(5.0)


def scraped(hot: Hotpath) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(HotpathCollector(hot))
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {sample.name: sample.value for sample in samples if sample.name.startswith("hotpath_origin_")}


def test_the_first_request_starts_it_and_the_page_comes(url: str, make: Callable[..., Hotpath]) -> None:
    hot = make(origin=url)
    site = HotpathMiddleware(HotpathMiddleware(app, hot=hot, follow=True), hot=hot, follow=True)
    assert followers() == []
    assert get(site, "/cold") == (418, b"app")
    until(lambda: get(site, "/a") == (200, b'{"built":1}'))
    assert len(followers()) == 1
    until(lambda: scraped(hot))
    figures = scraped(hot)
    assert figures.pop("hotpath_origin_look_age_seconds") < 60
    assert figures == {
        "hotpath_origin_generation": 1,
        "hotpath_origin_lag_seconds": 0,
        "hotpath_origin_failing": 0,
        "hotpath_origin_unsent": 0,
    }


def test_the_environment_says_where_too(
    url: str, make: Callable[..., Hotpath], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTPATH_ORIGIN", url)
    hot = make()
    site = HotpathMiddleware(app, hot=hot, follow=True)
    get(site, "/cold")
    until(lambda: get(site, "/a")[0] == 200)


def test_without_follow_nothing_follows(url: str, make: Callable[..., Hotpath]) -> None:
    hot = make(origin=url)
    assert get(HotpathMiddleware(app, hot=hot), "/a") == (418, b"app")
    assert followers() == []
    assert scraped(hot) == {}


def test_an_origin_that_is_switched_off_is_not_followed(
    url: str, make: Callable[..., Hotpath], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTPATH_ORIGIN", "off")
    site = HotpathMiddleware(app, hot=make(origin=url), follow=True)
    assert get(site, "/a") == (418, b"app")
    assert followers() == []


def test_no_origin_or_a_wrong_one_fails_at_construction(
    url: str, make: Callable[..., Hotpath], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeclarationError, match="there is no origin to follow"):
        HotpathMiddleware(app, hot=make(), follow=True)
    with monkeypatch.context() as patch:
        patch.setenv("HOTPATH_ORIGIN", f"s3://key:{SECRET}@bucket")
        with pytest.raises(DeclarationError) as failure:
            HotpathMiddleware(app, hot=make(), follow=True)
        assert SECRET not in str(failure.value)


def test_an_origin_that_is_not_there_costs_no_page(
    tmp_path: Path, make: Callable[..., Hotpath], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOTPATH_ORIGIN", raising=False)
    hot = make(origin=f"file://{tmp_path}/gone", hints=f"redis://:{SECRET}@127.0.0.1:1/0")
    hot.route("/a")(lambda: {"here": 1})
    build(hot)
    site = HotpathMiddleware(app, hot=hot, follow=True)
    assert get(site, "/a") == (200, b'{"here":1}')
    until(lambda: scraped(hot).get("hotpath_origin_failing"))
    until(lambda: "there is no such directory" in caplog.text)
    assert get(site, "/a") == (200, b'{"here":1}')
    assert caplog.text.count("there is no such directory") == 1
    assert SECRET not in caplog.text + (hot.store.root / "origin.json").read_text()
