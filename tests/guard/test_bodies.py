"""Bodies share a budget, count while they arrive, hold nothing while they idle, and obey one rule in every method."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from hotpath.guard.bodies import (
    FIRST_FACTOR,
    LARGE_BYTES,
    MAX_FACTOR,
    MAX_FIELDS,
    MIN_FACTOR,
    SMALL_BYTES,
    YOUNG_SECONDS,
    Factors,
    body_length,
)
from hotpath.guard.states import State
from tests.guard.fakes import MIB, Rigged, http

CHUNKED = (b"transfer-encoding", b"chunked")
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PROPFIND")


def sized(size: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % size


def at(share: float, **options: Any) -> Rigged:
    rigged = Rigged(**options)
    rigged.see(share, samples=2)
    return rigged


def entered(rigged: Rigged, scope: dict[str, Any]) -> int:
    """200 when it is let in, by the short way or the long one; it stays in the app."""
    admission = rigged.guard.admission
    refusal = None if admission.let_in(scope) else admission.enter(scope)
    return 200 if refusal is None else refusal.status


class Upload:
    """A request whose body comes in pieces as the test says, to an app that reads all of it."""

    def __init__(self, rigged: Rigged, *headers: tuple[bytes, bytes], path: str = "/up", method: str = "POST") -> None:
        self.rigged = rigged
        self.scope = http(path, method, *headers)
        self.sent: list[dict[str, Any]] = []
        self.got = 0
        self.is_gone = False

    def run(
        self, pieces: Sequence[int], before: Callable[[int], object] = lambda _: None, *, begins: bool = False
    ) -> int:
        """The status; ``before`` is called with the number of each piece, ``begins``: the app answers first."""
        admission = self.rigged.guard.admission
        refusal = None if admission.let_in(self.scope) else admission.enter(self.scope)
        if refusal is not None:
            return refusal.status
        numbers = iter(range(len(pieces)))

        async def receive() -> dict[str, Any]:
            number = next(numbers)
            before(number)
            return {"type": "http.request", "body": bytes(pieces[number]), "more_body": number < len(pieces) - 1}

        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            start = {"type": "http.response.start", "status": 200, "headers": []}
            if begins:
                await send(start)
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.is_gone = True
                    assert await receive() == message
                    raise ConnectionError("as frameworks do")
                self.got += len(message["body"])
                if not message["more_body"]:
                    break
            if not begins:
                await send(start)
            await send({"type": "http.response.body", "body": b"done"})

        async def main() -> None:
            await admission.app_for(self.scope, app)(self.scope, receive, send)

        asyncio.run(main())
        return int(self.sent[0]["status"])

    def leave(self) -> None:
        self.rigged.guard.admission.leave(self.scope)


@pytest.mark.parametrize("method", METHODS)
def test_every_rule_holds_for_every_method(method: str) -> None:
    rigged = at(0.3)
    for size, expected in ((57, 200), (58, 503), (501, 413)):
        scope = http("/up", method, sized(size * MIB))
        assert entered(rigged, scope) == expected
        rigged.guard.admission.leave(scope)
    assert Upload(rigged, CHUNKED, method=method).run([MIB] * 80) == 503
    full = at(0.95, priority={"/up": 1})
    assert entered(full, http("/up", method)) == 200
    assert [entered(full, http("/up", method, field)) for field in (sized(10), CHUNKED)] == [503, 503]
    blind = at(0.3)
    blind.see(None, samples=3)
    assert blind.guard.state is State.BLIND
    for size, expected in ((LARGE_BYTES, 200), (LARGE_BYTES + 1, 503)):
        assert entered(blind, http("/up", method, sized(size))) == expected


def test_what_is_never_refused_brings_no_large_body() -> None:
    rigged = at(0.95)
    for field, expected in (((b"content-length", b"0"), 200), (sized(10), 200), (sized(MIB), 503), (CHUNKED, 503)):
        assert entered(rigged, http("/livez", "GET", field)) == expected


def test_bodies_share_a_quarter_of_the_headroom() -> None:
    rigged = at(0.3)
    uploads = [http("/up", "POST", sized(20 * MIB)) for _ in range(3)]
    assert [entered(rigged, scope) for scope in uploads] == [200, 200, 503], "60 MiB each of 173"
    assert entered(rigged, http("/login", "POST", sized(SMALL_BYTES))) == 200
    rigged.guard.admission.leave(uploads[0])
    assert entered(rigged, uploads[2]) == 200


def test_an_upload_that_idles_holds_no_budget_and_asks_again_when_it_goes_on() -> None:
    rigged = at(0.3)
    idle = [Upload(rigged, sized(50 * MIB)) for _ in range(2)]
    assert entered(rigged, idle[0].scope) == 200
    assert entered(rigged, idle[1].scope) == 503
    rigged.clock.advance(YOUNG_SECONDS)
    assert entered(rigged, idle[1].scope) == 200
    late = Upload(rigged, sized(50 * MIB))

    def pause(number: int) -> None:
        if number == 1:
            rigged.clock.advance(YOUNG_SECONDS)
            assert entered(rigged, http("/up", "POST", sized(50 * MIB))) == 200

    rigged.clock.advance(YOUNG_SECONDS)
    assert late.run([MIB] * 50, pause) == 503
    assert (late.got, late.is_gone) == (MIB, True), "another one has the budget by now"


def test_idle_posts_lock_no_route() -> None:
    """One POST of 55 MB, then three that idle: the route goes on for everybody."""
    rigged = at(0.3)
    first = Upload(rigged, sized(55 * MIB), path="/login")

    def grow(number: int) -> None:
        if number % 10 == 9:
            rigged.see(0.3 + 0.03 * number / 10, seconds=0.1)

    assert first.run([MIB] * 55, grow) == 200
    first.leave()
    rigged.see(0.3)
    idle = [http("/login", "POST", sized(size)) for size in (20, 20, 50 * MIB)]
    assert [entered(rigged, scope) for scope in idle] == [200] * 3
    for _ in range(50):
        rigged.see(0.3)
        login = http("/login", "POST", sized(30))
        assert entered(rigged, login) == 200
        rigged.guard.admission.leave(login)
    assert not rigged.guard.admission.shed


def test_a_body_of_unknown_length_is_counted_while_it_arrives() -> None:
    rigged = at(0.3)
    upload = Upload(rigged, CHUNKED)
    assert upload.run([MIB] * 57) == 200
    upload.leave()
    upload = Upload(rigged, CHUNKED)
    assert upload.run([MIB] * 58) == 503
    assert (upload.got, upload.is_gone) == (57 * MIB, True)
    assert [message["type"] for message in upload.sent] == ["http.response.start", "http.response.body"]
    assert dict(upload.sent[0]["headers"])[b"connection"] == b"close"
    assert rigged.guard.admission.shed == {("P3", "body"): 1}


def test_an_answer_that_has_begun_is_not_answered_twice() -> None:
    upload = Upload(at(0.3), CHUNKED)
    assert upload.run([MIB] * 60, begins=True) == 200
    assert upload.is_gone
    assert [message["type"] for message in upload.sent] == ["http.response.start"]


def test_a_stream_ends_when_brake_begins_and_a_small_one_does_not() -> None:
    rigged = at(0.3)

    def fill(number: int) -> None:
        if number == 2:
            rigged.see(0.95)

    assert Upload(rigged, CHUNKED).run([MIB] * 4, fill) == 503
    rigged = at(0.3)
    assert Upload(rigged, CHUNKED).run([1000] * 4, fill) == 200


def test_a_blind_guard_lets_a_stream_have_a_mebibyte() -> None:
    rigged = at(0.3)
    rigged.see(None, samples=3)
    assert Upload(rigged, CHUNKED).run([LARGE_BYTES]) == 200
    assert Upload(rigged, CHUNKED).run([LARGE_BYTES, 1]) == 503


def test_http_2_announces_no_body() -> None:
    """RFC 9113 §8.1: it just comes."""
    rigged = at(0.3)
    upload = Upload(rigged)
    upload.scope["http_version"] = "2"
    upload.scope["method"] = "GET"
    assert upload.run([MIB] * 58) == 503


def test_an_error_of_the_app_is_the_apps() -> None:
    rigged = at(0.3)
    scope = http("/up", "POST", sized(10))
    assert rigged.guard.admission.enter(scope) is None

    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        await rigged.guard.admission.app_for(scope, broken)(scope, None, None)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())


def test_a_route_learns_what_it_makes_of_its_bodies() -> None:
    rigged = at(0.3)

    def upload(per_byte: float) -> float:
        done = Upload(rigged, sized(20 * MIB))

        def grow(number: int) -> None:
            rigged.see(0.3 + per_byte * number / 1000, seconds=0.1)

        assert done.run([MIB] * 20, grow) == 200
        rigged.see(0.3 + per_byte * 20 / 1000, seconds=0.1)
        done.leave()
        rigged.see(0.3)
        return rigged.guard.admission.bodies.factors.expected("POST /up", rigged.clock())

    assert upload(1.0) == pytest.approx(2.0, rel=0.1), "half way from 3 to 1"
    assert upload(1.0) == pytest.approx(1.5, rel=0.1)
    assert upload(5.0) == pytest.approx(5.0, rel=0.1), "more counts at once"
    assert len(rigged.guard.admission.costs) == 0, "and is no cost of the route"


def test_an_upload_is_not_charged_to_a_route_that_others_opened_requests_of() -> None:
    rigged = at(0.3)
    for _ in range(3):
        assert entered(rigged, http("/login", "POST", sized(20))) == 200
    assert entered(rigged, http("/search")) == 200

    def grow(number: int) -> None:
        rigged.see(0.3 + 0.03 * number / 10, seconds=0.1)

    assert Upload(rigged, sized(50 * MIB)).run([MIB] * 50, grow) == 200
    assert len(rigged.guard.admission.costs) == 0


def test_a_body_that_did_not_come_has_made_nothing_grow() -> None:
    rigged = at(0.3)
    for _ in range(3):
        assert entered(rigged, http("/login", "POST", sized(20))) == 200
    rigged.see(0.3, samples=2)
    assert entered(rigged, http("/report")) == 200
    rigged.see(0.5)
    costs = rigged.guard.admission.costs
    assert costs.expected("POST /login", rigged.clock()) == 0
    assert costs.expected("GET /report", rigged.clock()) == pytest.approx(200 * MIB, rel=0.01)


def test_what_a_small_body_makes_grow_is_the_routes_cost() -> None:
    """An archive that unpacks, an image of many pixels."""
    rigged = at(0.3)
    assert Upload(rigged, sized(MIB), path="/thumbnail").run([MIB]) == 200
    rigged.see(0.5)
    cost = rigged.guard.admission.costs.expected("POST /thumbnail", rigged.clock())
    assert cost == pytest.approx(190 * MIB, rel=0.01)


def test_a_forked_child_has_no_bodies() -> None:
    rigged = at(0.3)
    scope = http("/up", "POST", sized(50 * MIB))
    assert entered(rigged, scope) == 200
    rigged.guard.admission.restart()
    assert rigged.guard.admission.bodies.get(scope) is None
    assert entered(rigged, http("/up", "POST", sized(50 * MIB))) == 200


def test_factors_are_bounded_and_fade() -> None:
    factors = Factors()
    assert factors.expected("a", 0) == FIRST_FACTOR
    factors.note("a", 1000, 0)
    assert factors.expected("a", 0) == MAX_FACTOR
    for _ in range(20):
        factors.note("a", 0, 0)
    assert factors.expected("a", 0) == MIN_FACTOR
    assert factors.expected("a", 600) == pytest.approx((FIRST_FACTOR + MIN_FACTOR) / 2)
    assert factors.expected("a", 1e6) == pytest.approx(FIRST_FACTOR)


def test_a_head_of_many_fields_is_not_searched() -> None:
    """That would cost milliseconds for 400,000 of them; its body is counted while it arrives."""
    many = [(b"range", b"a")] * (MAX_FIELDS + 1)
    assert body_length(many) is None
    assert body_length(many[:MAX_FIELDS]) == 0
    rigged = at(0.3)
    assert Upload(rigged, *many, method="GET").run([0]) == 200
    assert Upload(rigged, *many, sized(MIB * 60), method="GET").run([MIB] * 60) == 503
