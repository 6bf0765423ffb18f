"""Nobody gets a page that was made for somebody else, whatever the app says of its pages and however it fails."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from pathlib import Path
from typing import Self

import pytest

from tests.front.failing_origin import Origin, Request, Script
from tests.front.last_good import front, origin
from tests.front.personal_site import (
    CONTROLS,
    SESSIONS,
    TARGETS,
    USERS,
    Came,
    Crowd,
    credentials,
    failing,
    leak_of,
    moods,
    page_of,
)
from tests.front.serving import make_site

REQUESTS = int(os.environ.get("HOTPATH_TEST_LEAK_REQUESTS", "100000"))
CLIENTS = 24
FAILING_SHARE = 0.3


class Moody:
    """Lets the site of an origin be well, flaky, dead or gone, in turns."""

    def __init__(self, site: Origin, seed: int) -> None:
        self._site, self._seed = site, seed
        self._rng = random.Random(seed)
        self._mood = "well"
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        site.reply = self._reply

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _reply(self, request: Request) -> Script:
        share = {"well": 0.01, "flaky": FAILING_SHARE}.get(self._mood, 1.0)
        return failing(request, self._rng) if self._rng.random() < share else page_of(request)

    def _run(self) -> None:
        for mood, seconds in moods(self._seed):
            self._mood = mood
            if mood == "refusing":
                self._site.refuse()
            if self._end.wait(seconds):
                return
            self._site.listen()
            self._site.seen.clear()


@pytest.mark.slow
@pytest.mark.parametrize(("options", "share"), [((), 0.8), (("--fresh",), 0.2)], ids=["while it fails", "fresh"])
def test_no_leaks(tmp_path: Path, options: tuple[str, ...], share: float) -> None:
    site = make_site(tmp_path / "site")
    more = ("--patience", "0.2s", "--hold", "0.3s", *options)
    with origin() as app, front(site, app, *more) as started, Moody(app, seed=17):
        crowd = Crowd(started.port, seed=17)
        asyncio.run(crowd.run(int(REQUESTS * share), CLIENTS))
        assert started.process.poll() is None
    print(dict(crowd.seen))
    assert crowd.leaks == []
    assert crowd.seen["requests"] > 0.9 * REQUESTS * share
    # It was tried: pages of all came from the cache, and the app has made pages for each of the users meanwhile.
    assert crowd.seen["cache none"] > 100
    assert crowd.seen["cache token"] > 100
    assert crowd.seen["cache field"] > 100
    assert crowd.seen["app"] > 0.1 * REQUESTS * share


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("user", USERS)
def test_the_site_knows_its_users(session: str, user: str) -> None:
    for control in CONTROLS:
        fields, query = credentials(session, user)
        target = f"/{session}/{control}/0{query}"
        request = Request(0, "GET", target, {name.lower(): value for name, value in fields.items()})
        head, _, body = page_of(request).data.partition(b"\r\n\r\n")
        made_for = "everybody" if session == "none" else user
        assert f"X-For: {made_for}".encode() in head
        came = Came(200, {"x-for": made_for, "x-target": target}, body)
        assert leak_of(session, user, target, came) is None


def test_a_leak_is_seen() -> None:
    target = TARGETS[0]
    body = f"for=alice target={target} end\n".encode()
    alice = Came(200, {"x-for": "alice", "x-target": target}, body)
    assert leak_of("cookie", "alice", target, alice) is None
    assert leak_of("cookie", "bob", target, alice) is not None
    assert leak_of("cookie", "nobody", target, alice) is not None
    assert leak_of("none", "bob", target, alice) is not None
    assert leak_of("cookie", "alice", TARGETS[1], alice) is not None
    assert leak_of("cookie", "bob", target, Came(200, {}, body)) is not None
    assert leak_of("cookie", "bob", target, Came(200, {"x-for": "bob", "x-target": target}, body)) is not None
    cached = {"x-for": "nobody", "x-target": "/cookie/private/0", "cache-status": "hotpath; hit; ttl=1"}
    page = b"for=nobody target=/cookie/private/0 end\n"
    assert leak_of("cookie", "nobody", "/cookie/private/0", Came(200, cached, page)) is not None
