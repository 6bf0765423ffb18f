"""``LastGood`` around an app: what a client gets when the app fails, and what never comes from the cache."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotpath.asgi import HotpathMiddleware, LastGood
from hotpath.errors import DeclarationError
from hotpath.site import Hotpath
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


async def never() -> Any:
    await asyncio.Event().wait()


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


def test_an_answer_that_was_under_way_while_its_page_was_changed_is_not_kept(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        app.gate = gate = asyncio.Event()
        slow = asyncio.ensure_future(ask(last_good))
        await asyncio.sleep(0.02)
        app.gate = None
        await ask(last_good, method="POST")
        gate.set()
        assert (await slow).body == b"hello"
        app.fails = True
        with pytest.raises(ConnectionError):
            await ask(last_good)

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


def test_an_app_that_watches_for_its_client_goes_on_for_the_next_one(last_good: LastGood) -> None:
    gate = asyncio.Event()
    answers = iter((b"first", b"second"))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = next(answers)
        await receive()
        if body == b"second":
            gone, slow = asyncio.ensure_future(receive()), asyncio.ensure_future(gate.wait())
            await asyncio.wait((gone, slow), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return
            gone.cancel()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    last_good.app = app

    async def main() -> None:
        await ask(last_good)
        assert (await ask(last_good)).body == b"first"
        await asyncio.sleep(0.01)
        gate.set()
        await asyncio.sleep(0.01)
        last_good.app = App(fails=True)
        assert (await ask(last_good)).body == b"second"

    run(main())


def test_a_failing_app_is_asked_by_one_request_at_a_time(
    app: App, last_good: LastGood, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        await ask(last_good)
        timer = last_good.timer = Clock()
        app.pages["/"] = (500, [], b"broken")
        before = len(app.asked)
        answers = [await ask(last_good) for _ in range(30)]
        assert {answer.body for answer in answers} == {b"hello"}
        assert len(app.asked) - before == 5
        refused = [await ask(last_good, "/new"), await ask(last_good, method="POST")]
        refused.append(await ask(last_good, headers=[("cookie", "sid=1")]))
        assert {answer.status for answer in refused} == {503}
        assert refused[0].values("retry-after") == ["1"]
        assert len(app.asked) - before == 5
        app.pages["/"] = PAGE
        timer.now += 1
        assert not (await ask(last_good)).is_hit
        assert (await ask(last_good, "/new")).status == 404

    run(main())
    first, second = (text for text in caplog.messages if "the app" in text)
    assert first.startswith(
        "hotpath: the app fails or is not there, 5 times in a row: it is asked by one request at a time"
    )
    assert second == "hotpath: the app answers again"


def test_who_has_no_last_good_answer_goes_on_where_the_app_is_not_there_at_all(app: App, tmp_path: Path) -> None:
    last_good = cache(app, tmp_path, is_reachable=lambda: False)

    async def main() -> None:
        app.pages["/"] = (503, [], b"")
        for _ in range(10):
            await ask(last_good)
        assert len(app.asked) == 10

    run(main())
    last_good.close()


def test_a_slow_page_does_not_open_the_breaker_while_others_are_answered(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        await ask(last_good)
        app.gate = gate = asyncio.Event()
        slow = [asyncio.ensure_future(ask(last_good)) for _ in range(8)]
        await asyncio.sleep(0.01)
        app.gate = None
        assert (await ask(last_good, "/other")).status == 404
        assert {answer.body for answer in await asyncio.gather(*slow)} == {b"hello"}
        assert not last_good.breaker.is_open
        gate.set()

    run(main())


def test_requests_that_go_on_for_nobody_are_few_and_can_be_ended(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        paths = [f"/{number}" for number in range(20)]
        app.pages = dict.fromkeys(paths, PAGE)
        for path in paths:
            await ask(last_good, path)
        app.gate = asyncio.Event()
        await asyncio.gather(*[ask(last_good, path) for path in paths * 2])
        last_good.breaker.succeeded()
        await asyncio.sleep(0.02)
        assert 0 < len(last_good.detached) <= last_good.MAX_DETACHED
        last_good.let_go()
        await asyncio.sleep(0.02)
        assert len(last_good.detached) == 0
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_a_client_that_goes_away_is_no_failure_of_the_app(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        app.gate = asyncio.Event()
        for _ in range(6):
            asking = asyncio.ensure_future(ask(last_good))
            await asyncio.sleep(0.001)
            asking.cancel()
        await asyncio.sleep(0.01)
        assert not last_good.breaker.is_open

    run(main())


@pytest.mark.parametrize(
    "page",
    [
        (200, [("content-type", "text/event-stream")], [b"data: 1", b"data: 2"]),
        (200, [], [b"x" * 1024 * 1024] * 9),
        (200, [("content-length", "9" * 30)], b"x"),
        (200, [("x-a", "y" * 65536), ("vary", "z" * 65536), ("cache-control", "a=" * 32768)], b"x"),
    ],
)
def test_what_is_not_kept_passes_all_the_same(app: App, last_good: LastGood, page: Any) -> None:
    async def main() -> None:
        app.pages["/"] = page
        answer = await ask(last_good)
        body = page[2] if isinstance(page[2], bytes) else b"".join(page[2])
        assert (answer.status, answer.headers, answer.body) == (200, page[1], body)
        assert last_good.collected == 0

    run(main())


def test_a_key_of_8_kb_is_kept_and_a_longer_one_passes(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        for length, is_kept in ((8192, True), (40_000, False)):
            query = "/?" + "q" * length
            app.fails = False
            await ask(last_good, query)
            app.fails = True
            if is_kept:
                assert (await ask(last_good, query)).body == b"hello"
            else:
                with pytest.raises(ConnectionError):
                    await ask(last_good, query)

    run(main())


def test_a_body_in_memory_that_is_sent_in_another_way_is_not_kept(last_good: LastGood) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.debug", "info": {}})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": "/nowhere"})
        await send({"type": "http.response.body", "body": b""})

    last_good.app = app
    messages: list[Any] = []

    async def main() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"a")], "scheme": "http"}

        async def send(message: Any) -> None:
            messages.append(message["type"].rpartition(".")[2])

        await last_good(scope, never, send)

    run(main())
    assert messages == ["debug", "start", "pathsend", "body"]
    last_good.close()
    assert last_good.file.counters.stored == 0


def test_the_lifespan_passes_and_its_end_closes_the_file(app: App, tmp_path: Path) -> None:
    sent: list[str] = []

    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def main() -> None:
        last_good = cache(app, tmp_path)
        await ask(last_good)
        last_good.app = lifespan
        await last_good({"type": "lifespan"}, never, send)
        again = cache(app, tmp_path)
        app.fails = True
        assert (await ask(again)).body == b"hello"
        again.close()

    run(main())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_the_access_line_says_whose_answer_it_was(app: App, tmp_path: Path) -> None:
    requests: list[Any] = []
    last_good = cache(app, tmp_path)
    site = HotpathMiddleware(last_good, hot=Hotpath(tmp_path / "hot"), observe=requests.append)

    async def main() -> None:
        await ask(site)
        app.fails = True
        await ask(site)

    run(main())
    last_good.close()
    assert [(request.result, request.status, request.body_bytes) for request in requests] == [
        ("miss", 200, 5),
        ("last_good", 200, 5),
    ]


def test_under_trio_everything_passes(app: App, last_good: LastGood, caplog: pytest.LogCaptureFixture) -> None:
    trio = pytest.importorskip("trio")
    statuses: list[int] = []

    async def main() -> None:
        async def send(message: Any) -> None:
            statuses.append(message.get("status", 0))

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"a")], "scheme": "http"}
        for _ in range(3):
            await last_good(scope, None, send)  # type: ignore[arg-type]

    trio.run(main)
    assert statuses == [200, 0] * 3
    assert len([text for text in caplog.messages if "needs asyncio" in text]) == 1


@pytest.mark.parametrize(
    "options",
    [{"max_bytes": "3"}, {"patience": "soon"}, {"stale": -1}, {"ignore_cookies": "_ga"}, {"max_bytes": 0}],
)
def test_options_that_make_no_sense_are_refused(app: App, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError):
        cache(app, tmp_path, **options)


def personal_page(scope: Any) -> Any:
    """A site with users: by cookie, by bearer, by a token in the query, with and without ``private`` and ``Vary``."""
    fields = {name.decode(): value.decode() for name, value in scope["headers"]}
    user = fields.get("cookie", "").partition("sid=")[2] or fields.get("authorization", "").removeprefix("Bearer ")
    user = user or scope["query_string"].decode().removeprefix("token=")
    headers = [[], [("cache-control", "private")], [("vary", "cookie, authorization")], [("cache-control", "public")]]
    random.shuffle(headers)
    status = random.choice([200, 200, 200, 500, 503])
    return status, headers[0], f"hello {user or 'nobody'}".encode()


def test_nobody_gets_a_page_of_somebody_else(app: App, last_good: LastGood) -> None:
    async def main() -> None:
        random.seed(17)
        app.pages = dict.fromkeys([f"/{number}" for number in range(5)], personal_page)
        served = 0
        for _ in range(1500):
            who = random.choice(["ann", "bob", ""])
            path, headers = f"/{random.randrange(5)}", []
            match random.choice(["cookie", "bearer", "query"]) if who else "":
                case "cookie":
                    headers = [("cookie", f"_ga=1; sid={who}")]
                case "bearer":
                    headers = [("authorization", f"Bearer {who}")]
                case "query":
                    path += f"?token={who}"
                case _:
                    headers = random.choice([[], [("cookie", "_ga=1")]])
            app.fails = random.random() < 0.2
            try:
                answer = await ask(last_good, path, headers)
            except ConnectionError:
                continue
            finally:
                last_good.breaker.succeeded()
            served += answer.is_hit
            assert answer.body == f"hello {who or 'nobody'}".encode()
            assert not (answer.is_hit and headers and who)
        assert served > 100

    run(main())
