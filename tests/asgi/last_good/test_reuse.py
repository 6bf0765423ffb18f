"""``fresh=True``: one request at a time for each key, and revalidation that holds nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotpath.asgi import LastGood
from tests.asgi.last_good.site import App, Clock, ask, cache

FRESH = (200, [("cache-control", "max-age=10, stale-while-revalidate=60"), ("etag", '"1"')], b"page")


@pytest.fixture
def app() -> App:
    return App({"/": FRESH})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def last_good(app: App, clock: Clock, tmp_path: Path) -> Iterator[LastGood]:
    made = cache(app, tmp_path, clock=clock, fresh=True, patience=5)
    yield made
    made.close()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0.01)


def test_many_requests_are_one_for_the_app(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        app.gate = asyncio.Event()
        asking = [asyncio.ensure_future(ask(last_good)) for _ in range(50)]
        await app.wait_for(1)
        await settle()
        assert len(app.asked) == 1
        app.gate.set()
        answers = await asyncio.gather(*asking)
        assert {answer.body for answer in answers} == {b"page"}
        assert len(app.asked) == 1

    asyncio.run(main())


def test_who_waits_for_an_answer_that_is_nobody_elses_goes_on_alone(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        numbers = iter(range(100))
        app.pages["/"] = lambda scope: (200, [("cache-control", "private")], b"%d" % next(numbers))
        answers = await asyncio.gather(*[ask(last_good) for _ in range(20)])
        assert len({answer.body for answer in answers}) == 20
        app.gate = asyncio.Event()
        asking = [asyncio.ensure_future(ask(last_good)) for _ in range(20)]
        await app.wait_for(40)  # nobody waits for one another any more
        app.gate.set()
        await asyncio.gather(*asking)

    asyncio.run(main())


def test_the_first_one_fails_and_the_others_do_not_hang(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        app.fails = True
        outcomes = await asyncio.gather(*[ask(last_good) for _ in range(5)], return_exceptions=True)
        assert all(isinstance(outcome, ConnectionError) for outcome in outcomes[:1])
        app.fails = False
        await asyncio.sleep(0)
        last_good.breaker.succeeded()
        assert (await ask(last_good)).body == b"page"

    asyncio.run(main())


def test_the_first_client_goes_away_and_the_others_do_not_hang(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        app.gate = asyncio.Event()
        first = asyncio.ensure_future(ask(last_good))
        await app.wait_for(1)
        others = [asyncio.ensure_future(ask(last_good)) for _ in range(3)]
        await settle()
        first.cancel()
        app.gate.set()
        answers = await asyncio.gather(*others)
        assert {answer.body for answer in answers} == {b"page"}

    asyncio.run(main())


def test_a_stale_answer_comes_at_once_while_the_app_is_asked(app: App, last_good: LastGood, clock: Clock) -> None:
    async def main() -> None:
        await ask(last_good)
        clock.now += 20
        app.gate = asyncio.Event()
        answers = await asyncio.gather(*[ask(last_good) for _ in range(20)])
        assert {answer.cache_status for answer in answers} == {"hotpath; hit; ttl=-10; detail=stale-while-revalidate"}
        await app.wait_for(2)
        assert app.asked[1][2]["if-none-match"] == '"1"'
        app.pages["/"] = (304, [], b"")
        app.gate.set()
        async with asyncio.timeout(30):
            while (await ask(last_good)).age:
                await settle()

    asyncio.run(main())


def test_an_app_that_fails_behind_the_clients_back_harms_nobody(app: App, last_good: LastGood, clock: Clock) -> None:
    async def main() -> None:
        await ask(last_good)
        clock.now += 20
        app.fails = True
        for _ in range(3):
            assert (await ask(last_good)).body == b"page"
            await settle()

    asyncio.run(main())


def test_a_follower_waits_no_longer_than_the_patience(app: App, clock: Clock, tmp_path: Path) -> None:
    last_good = cache(app, tmp_path, clock=clock, fresh=True, patience=0.05)

    async def main() -> None:
        app.gate = asyncio.Event()
        asking = [asyncio.ensure_future(ask(last_good)) for _ in range(2)]
        await app.wait_for(2)
        app.gate.set()
        await asyncio.gather(*asking)

    asyncio.run(main())
    last_good.close()


def test_variants_wait_for_one_another_and_get_their_own(app: App, last_good: LastGood) -> None:
    def page(scope: Any) -> Any:
        language = dict(scope["headers"])[b"accept-language"]
        return 200, [("cache-control", "max-age=10"), ("vary", "accept-language")], language

    async def main() -> None:
        app.pages["/"] = page
        languages = ["de", "en", "fr"] * 5
        answers = await asyncio.gather(*[ask(last_good, headers=[("accept-language", it)]) for it in languages])
        assert [answer.body.decode() for answer in answers] == languages

    asyncio.run(main())
