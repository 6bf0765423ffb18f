"""What a process serves, and how its guard stands, as the page shows it."""

from __future__ import annotations

import time
from pathlib import Path

import anyio

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.run import build
from hotpath.dashboard import Dashboard
from hotpath.dashboard.live import guard_facts, live_facts
from hotpath.site import Hotpath
from hotpath.testing import asgi_get
from tests.guard.fakes import LIMIT, Rigged
from tests.guard.waiting import wait_until


async def nothing(scope: object, receive: object, send: object) -> None:
    raise AssertionError("a hot page does not ask the app")


def test_the_pages_that_were_asked_for_most_are_first_with_their_bytes(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot")
    hot.route("/a/{n}", each={"n": [1, 2, 3]})(lambda n: {"rows": [n] * 10})
    build(hot)
    assert live_facts(hot) is None
    app = HotpathMiddleware(nothing, hot=hot)

    async def visit() -> None:
        for path in ("/a/2", "/a/3", "/a/2"):
            assert (await asgi_get(app, path)).status == 200

    anyio.run(visit)
    facts = live_facts(hot)
    assert facts is not None
    assert [(line.key, line.hits) for line in facts.hits] == [("/a/2", 2), ("/a/3", 1)]
    body = (hot.store.files_path(1) / "a" / "2.json").stat()
    assert facts.hits[0].bytes == body.st_size
    assert abs(facts.hits[0].changed - time.time()) < 60
    assert (facts.pages, facts.generation, facts.answers) == (3, 1, {("/a/{n}", "hit"): 3})


def test_the_page_keeps_what_the_guard_sees_over_time(tmp_path: Path) -> None:
    (tmp_path / "hot").mkdir()
    rigged = Rigged(leave=False)
    dashboard = Dashboard(hot=Hotpath(tmp_path / "hot"), guard=rigged.guard)
    for share in (0.3, 0.75, 0.85, None, 0.3):
        rigged.see(share, samples=4)
    samples = dashboard.sources.recorder.samples()
    assert [sample.state for sample in samples] == ["NORMAL", "TRIM", "SHED", "BLIND", "NORMAL"]
    assert {sample.limit for sample in samples} == {LIMIT}


def test_a_guard_is_shown_once_it_has_begun(tmp_path: Path) -> None:
    rigged = Rigged(leave=False)
    assert guard_facts(rigged.guard) is None
    rigged.reader.used = LIMIT * 3 // 10
    rigged.guard.start("test")
    try:
        wait_until(lambda: rigged.guard.reading is not None, 30, "no sample")
        facts = guard_facts(rigged.guard)
    finally:
        rigged.guard.close()
    assert facts is not None
    assert (facts.state, facts.share, facts.limit) == ("NORMAL", 0.3, LIMIT)
    assert facts.marks == {"trim": 0.7, "shed": 0.8, "brake": 0.9}
