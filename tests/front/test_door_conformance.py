"""The whole conformance table through each way in: the same bytes as uvicorn and the middleware, but for Date."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from hotpath.front.heads import MAX_HEAD_BYTES, MAX_LINES
from hotpath.front.hits import Hits
from hotpath.testing import Response
from hotpath.types import Header
from tests.front.random_heads import heads
from tests.front.ways import behind_uvicorn, by_the_door, front, talk, with_protocol, without_date
from tests.wire.conformance.cases import APP, CASES, PAGES, Case
from tests.wire.conformance.judge import page_of
from tests.wire.conformance.site import Site, fill, tags_of
from tests.wire.servers.client import Connection

# Rows that can be sent as they are.
ROWS = [case for case in CASES if not case.scope]

Way = Callable[[Site], contextlib.AbstractContextManager[int]]


@contextlib.contextmanager
def through_the_door(site: Site) -> Iterator[int]:
    with front(site.app, site.hot) as (door, _, port):
        yield port
        assert door.hits


WAYS: Mapping[str, Way] = {"door": through_the_door, "protocol": lambda site: with_protocol(site.app)}


def bytes_of(case: Case, site: Site) -> bytes:
    """The request of a row, on a connection that ends with it."""
    item = site.items.get(page_of(case))
    tags = tags_of(item) if item else {}
    lines = ["Host: example.org", *(fill(line, tags) for line in case.fields), "Connection: close"]
    return "\r\n".join([f"{case.method} {case.target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["plain", "quiet", "slashes", "ignoring", "behind"])
def test_every_row_gets_the_bytes_that_uvicorn_sends(sites: Mapping[str, Site], way: str, name: str) -> None:
    site = sites[name]
    rows = [case for case in ROWS if case.site == name]
    faults = []
    with behind_uvicorn(site.app) as reference, WAYS[way](site) as port:
        for case in rows:
            request = bytes_of(case, site)
            expected, answer = (without_date(talk(one, request, seconds=2)) for one in (reference, port))
            if answer != expected:
                faults.append((case.id, answer[:300], expected[:300]))
    assert faults == []
    assert len(rows) >= 2


def is_beyond_the_door(case: Case) -> bool:
    """Heads that the door leaves to uvicorn by rule: absolute-form, two of a field of framing, out of all measure."""
    lines = [line.lower() for line in case.fields]
    names = ("host:", "te:", "expect:", "upgrade:", "transfer-encoding:", "content-length:", "connection:")
    return (
        not case.target.startswith("/")
        or len(lines) > MAX_LINES - 2
        or sum(map(len, lines)) > MAX_HEAD_BYTES - 200
        or any(line.startswith(names) for line in lines)
        or any((ord(character) < 32 and character != "\t") for line in lines for character in line)
    )


def test_what_is_hot_is_answered_by_the_door_itself(sites: Mapping[str, Site]) -> None:
    """No loop is asked for a hot page in any spelling, with any condition or range."""
    site = sites["plain"]
    left, expected = [], []
    with front(site.app, site.hot) as (door, _, port):
        for case in ROWS:
            if case.site != "plain" or case.status == APP:
                continue
            before = door.hits
            talk(port, bytes_of(case, site), seconds=2)
            if door.hits == before:
                left.append(case.id)
            if is_beyond_the_door(case):
                expected.append(case.id)
    assert sorted(left) == sorted(expected)


def test_a_request_that_comes_again_is_answered_as_the_first_time(sites: Mapping[str, Site]) -> None:
    """Each row three times on one connection, with another page between them."""
    site, other = sites["plain"], PAGES["/digits"].body
    faults, selected = [], 0
    with front(site.app, site.hot) as (door, _, port):
        for case in ROWS:
            request = bytes_of(case, site).replace(b"\r\nConnection: close", b"")
            if case.site != "plain" or case.status == APP or case.method != "GET" or is_beyond_the_door(case):
                continue
            _, space, block = request[4:].partition(b" ")
            with Connection(port) as connection:
                first = connection.ask(request)
                between = connection.ask(b"GET /digits" + space + block)
                again = [connection.ask(request), connection.ask(request)]
            if any(without_age(answer) != without_age(first) for answer in again):
                faults.append((case.id, first, again))
            if between.status == 200 and not between.header("content-encoding"):
                assert between.body == other
                selected += 1
    assert faults == []
    assert selected > 20
    assert door.handed_over == 0


def without_age(answer: Response) -> tuple[int, list[Header], bytes]:
    """What does not change from one second to the next."""
    headers = [header for header in answer.headers if header[0] not in (b"date", b"cache-status")]
    return answer.status, headers, answer.body


LAST = b"GET /digits HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"


def differences(way: Way, site: Site, count: int, seed: int) -> list[bytes]:
    """Those of so many random beginnings of a connection that are answered otherwise than by uvicorn alone.

    Where a request that is none comes in one segment with a good one, uvicorn refuses before it has answered the
    first. So it gets what the door understands, and then the rest.
    """
    chance = random.Random(seed)
    hits = Hits(site.hot)
    requests = [heads(chance) + LAST for _ in range(count)]
    ends = [by_the_door(hits, request)[1] for request in requests]
    with behind_uvicorn(site.app) as reference, way(site) as port, ThreadPoolExecutor(24) as pool:

        def differs(request: bytes, end: int) -> bool:
            for seconds in (0.5, 3.0):  # the machine may have been busy for half a second
                expected = without_date(talk(reference, request[:end], request[end:], seconds=seconds, pause=0.1))
                if without_date(talk(port, request, seconds=seconds)) == expected:
                    return False
            return True

        others = pool.map(differs, requests, ends)
        return [request for request, is_other in zip(requests, others, strict=True) if is_other]


@pytest.mark.parametrize("way", WAYS)
def test_random_heads_get_the_bytes_that_uvicorn_sends(site: Site, way: str) -> None:
    """Over sockets, with all that is handed over: what is no request is refused in the same way."""
    assert differences(WAYS[way], site, 200, 1) == []


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_many_random_heads_get_the_bytes_that_uvicorn_sends(site: Site, way: str) -> None:
    assert differences(WAYS[way], site, 3000, 2) == []
