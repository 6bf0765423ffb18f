"""``LastGood`` around an app: what a client gets when the app fails, and what never comes from the cache."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotpath.asgi import LastGood
from tests.asgi.last_good.site import App, Clock, ask, cache

PAGE = (200, [("content-type", "text/html"), ("etag", '"1"')], b"hello")


@pytest.fixture
def app() -> App:
    return App({"/": PAGE})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def last_good(app: App, clock: Clock, tmp_path: Path) -> Iterator[LastGood]:
    made = cache(app, tmp_path, clock=clock, patience=0.05)
    yield made
    made.close()


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def test_nothing_comes_from_the_cache_while_the_app_answers(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        first = await ask(last_good)
        app.pages["/"] = (200, [], b"new")
        second = await ask(last_good)
        assert (first.body, second.body) == (b"hello", b"new")
        assert first.headers == [("content-type", "text/html"), ("etag", '"1"')]
        assert len(app.asked) == 2

    run(main())


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_app_that_answers_a_failure_gives_way_to_the_last_good_answer(
    app: App, last_good: LastGood, clock: Clock, status: int
) -> None:
    async def main() -> None:
        await ask(last_good)
        clock.now += 100
        app.pages["/"] = (status, [], b"broken")
        answer = await ask(last_good)
        assert (answer.status, answer.body, answer.age) == (200, b"hello", 100)
        assert answer.cache_status == "hotpath; hit; ttl=-100; detail=stale-if-error"

    run(main())


def test_an_app_that_raises_gives_way(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        await ask(last_good)
        app.fails = True
        assert (await ask(last_good)).body == b"hello"
        with pytest.raises(ConnectionError):
            await ask(last_good, "/other")

    run(main())


def test_an_app_that_does_not_begin_gives_way_after_the_patience(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        await ask(last_good)
        app.gate = asyncio.Event()
        app.pages["/"] = (200, [], b"late")
        began = time.monotonic()
        assert (await ask(last_good)).body == b"hello"
        assert time.monotonic() - began < 5
        app.gate.set()
        await asyncio.sleep(0.05)
        app.gate, app.fails = None, True
        assert (await ask(last_good)).body == b"late"  # it came too late for one client, and was kept for the next

    run(main())
