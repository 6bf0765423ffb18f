"""Who is let in to the app, in each state, by priority, body, cost and number."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from hotpath.guard.admission import CLOSES_PER_SECOND, WAIT_SECONDS, chance_of_refusal
from hotpath.guard.bodies import YOUNG_SECONDS, body_length
from hotpath.guard.outlook import Outlook
from hotpath.guard.states import State, Thresholds, drain
from tests.guard.fakes import LIMIT, MIB, Rigged, http

BODY = (b"content-length", b"10")


def status(rigged: Rigged, path: str = "/cold", method: str = "GET", *headers: tuple[bytes, bytes]) -> int:
    """200 when it is let in."""
    scope = http(path, method, *headers)
    refusal = rigged.guard.admission.enter(scope)
    rigged.guard.admission.leave(scope)
    return 200 if refusal is None else refusal.status


def at(share: float, **options: object) -> Rigged:
    rigged = Rigged(**options)
    rigged.see(share, samples=2)
    return rigged


def test_all_is_let_in_while_nothing_is_wrong() -> None:
    for share in (0.3, 0.75):
        rigged = at(share)
        for path, method in (("/cold", "GET"), ("/cold", "POST"), ("/livez", "GET"), ("/ready", "GET")):
            assert status(rigged, path, method, BODY) == 200
        assert not rigged.guard.admission.shed


def test_shed_goes_on_with_reads_and_small_writes_of_routes_that_do_not_grow() -> None:
    """Until BRAKE by level, whatever the chance and the growth."""
    for share in (0.80, 0.84, 0.89):
        rigged = at(share, reserve="1MiB", priority={"/export/*": 3})
        rigged.chance = 0.0
        rigged.guard.admission.costs.note("GET /report/{}", 50 * MIB, rigged.clock())
        assert rigged.guard.state is State.SHED
        assert status(rigged) == status(rigged, "/login", "POST", BODY) == 200
        assert status(rigged, "/report/7") == 503, "it was seen to grow"
        assert status(rigged, "/up", "POST", (b"content-length", b"100000")) == 503
        assert status(rigged, "/up", "POST", (b"transfer-encoding", b"chunked")) == 503
        assert status(rigged, "/export/7") == 503, "a read that its owner says matters least"


def test_a_route_that_grows_is_refused_more_often_the_less_is_left() -> None:
    for share, chance, expected in (
        (0.80, 0.6, 503),
        (0.80, 0.7, 200),
        (0.84, 0.9, 503),
        (0.84, 0.99, 200),
        (0.86, 0.999, 503),
    ):
        rigged = at(share, reserve="1MiB")
        rigged.guard.admission.costs.note("GET /report/{}", 5 * MIB, rigged.clock())
        rigged.chance = chance
        assert status(rigged, "/report/7") == expected, (share, chance)


def test_brake_for_its_growth_alone_goes_on_with_others_and_by_level_with_nobody() -> None:
    rigged = at(0.3, reserve="1MiB")
    for step in range(4):
        rigged.see(0.3 + 0.12 * step)
    rigged.see(0.80)
    assert (rigged.guard.state, rigged.guard.position.reason) == (State.BRAKE, "exhaustion")
    assert status(rigged) == status(rigged, "/login", "POST", BODY) == 200
    for field in ((b"content-length", b"100000"), (b"transfer-encoding", b"chunked")):
        assert status(rigged, "/up", "POST", field) == 503
    rigged.see(0.91)
    assert [status(rigged), status(rigged, "/login", "POST", BODY)] == [503, 503]
    rigged.see(0.85)
    assert status(rigged) == 503, "it stays so until the state is left"


def test_the_reserve_for_a_dear_route_shuts_no_other_out() -> None:
    """BRAKE begins early for it, with a quarter of the limit left."""
    rigged = at(0.6)
    rigged.guard.admission.costs.note("GET /report", 300 * MIB, rigged.clock())
    rigged.see(0.76)
    assert (rigged.guard.state, rigged.guard.position.reason) == (State.BRAKE, "headroom")
    assert [status(rigged, "/report"), status(rigged)] == [503, 200]
    rigged.see(0.955)
    assert status(rigged) == 503


def test_the_chance_rises_with_the_share_and_as_time_runs_out() -> None:
    def asked(share: float, seconds: float = 1e9) -> float:
        return chance_of_refusal(Outlook(0.0, share, 0, 0.0, seconds, 0), Thresholds())

    shares = [asked(share / 1000) for share in range(700, 1001)]
    assert shares == sorted(shares)
    assert asked(0.72) == 0.0
    assert asked(0.85) == pytest.approx(1.0)
    times = [asked(0.75, 8 - tenth / 10) for tenth in range(80)]
    assert times == sorted(times)
    assert times[0] < 0.3
    assert times[-1] == 1.0
    assert asked(0.5, 1.0) == 0.0, "below the first watermark no growth refuses"


def closings(rigged: Rigged, count: int, *headers: tuple[bytes, bytes]) -> list[bool]:
    """Of so many refusals, which close their connection."""
    asked = (rigged.guard.admission.enter(http("/cold", "POST", *headers)) for _ in range(count))
    return [refusal.closes for refusal in asked if refusal is not None]


def test_a_flood_of_refusals_closes_so_many_connections_a_second() -> None:
    rigged = at(0.95)
    for _ in range(3):
        assert closings(rigged, 300) == [True] * CLOSES_PER_SECOND + [False] * (300 - CLOSES_PER_SECOND)
        rigged.clock.advance(1.0)


def test_a_body_that_nobody_reads_always_closes() -> None:
    """RFC 9112 §9.3."""
    rigged = at(0.95)
    for field in (BODY, (b"transfer-encoding", b"chunked")):
        assert closings(rigged, 300, field) == [True] * 300
    assert closings(rigged, 1) == [True], "and counts as none of those"


def test_a_process_that_leaves_closes_every_connection() -> None:
    rigged = at(0.95)
    rigged.guard.admission.is_leaving = True
    assert closings(rigged, 300) == [True] * 300


def test_brake_lets_p0_and_p1_in_and_no_body() -> None:
    rigged = at(0.95, priority={"POST /login": 1})
    assert rigged.guard.state is State.BRAKE
    for path in ("/livez", "/metrics", "/robots.txt", "/.well-known/acme-challenge/x", "/readyz"):
        assert status(rigged, path) == 200
    assert status(rigged, "/cold") == 503
    assert status(rigged, "/cold", "POST") == 503
    assert status(rigged, "/login", "POST") == 200
    assert status(rigged, "/login", "POST", BODY) == 503
    assert status(rigged, "/login", "POST", (b"transfer-encoding", b"chunked")) == 503
    assert rigged.guard.admission.shed == {("P2", "brake"): 1, ("P3", "brake"): 1, ("P1", "body"): 2}


def test_a_hot_path_whose_page_is_missing_is_let_in() -> None:
    rigged = at(0.95)
    assert rigged.guard.admission.enter(http(), is_hot=True) is None


def test_readiness_says_503_when_the_process_leaves_and_liveness_goes_on() -> None:
    rigged = at(0.3)
    assert status(rigged, "/readyz") == 200
    rigged.guard.position = drain(rigged.guard.position, 1000.0, "asked")
    rigged.see(0.3)
    assert [status(rigged, path) for path in ("/readyz", "/ready", "/livez", "/cold")] == [503, 503, 200, 503]


def test_readiness_says_503_when_it_should_leave_and_cannot() -> None:
    rigged = at(0.95)
    assert status(rigged, "/readyz") == 200
    rigged.see(0.95, samples=25)
    assert rigged.guard.state is State.BRAKE
    assert status(rigged, "/readyz") == 503
    assert [alarm.kind for alarm in rigged.alarms] == ["usage_90", "stuck"]
    rigged.see(0.1, samples=20)
    assert status(rigged, "/readyz") == 200


def test_bodies_that_would_not_fit() -> None:
    rigged = at(0.3)
    # A quarter of 692 MiB is for bodies, and three times their length is reckoned with.
    for size, expected in ((57, 200), (58, 503), (501, 413)):
        assert status(rigged, "/up", "PUT", (b"content-length", b"%d" % (size * MIB))) == expected
    assert status(rigged, "/up", "PUT", (b"content-length", b"many")) == 200, "the server's to refuse"


def serve(rigged: Rigged, scope: dict[str, Any], *, meanwhile: Callable[[], object] = lambda: None) -> int:
    """The status of a request that was let in, from an app that answers 200; ``meanwhile`` is called while it waits."""
    sent: list[dict[str, Any]] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def main() -> None:
        waiting = asyncio.ensure_future(rigged.guard.admission.app_for(scope, app)(scope, None, send))
        await asyncio.sleep(0.01)
        meanwhile()
        await waiting

    asyncio.run(main())
    return int(sent[0]["status"])


def dear(rigged: Rigged, count: int) -> list[dict[str, Any]]:
    """So many requests at once of a route that takes 300 MiB, all let in."""
    rigged.guard.admission.costs.note("GET /report/{}", 300 * MIB, rigged.clock())
    rigged.see(0.3, seconds=0)
    scopes = [http(f"/report/{number}") for number in range(count)]
    assert [rigged.guard.admission.enter(scope) for scope in scopes] == [None] * count
    return scopes


def test_what_fits_by_itself_waits_a_moment_for_what_came_before() -> None:
    rigged = at(0.3)
    scopes = dear(rigged, 3)
    began = time.monotonic()
    assert serve(rigged, scopes[0]) == 200
    assert time.monotonic() - began < WAIT_SECONDS / 2
    assert serve(rigged, scopes[2]) == 200
    assert time.monotonic() - began >= WAIT_SECONDS, "300 MiB each of the 692 that are left"
    assert status(rigged) == 200, "another route"


def test_what_waits_is_let_go_as_soon_as_those_before_are_seen_to_idle() -> None:
    rigged = at(0.3)
    scopes = dear(rigged, 3)
    began = time.monotonic()
    assert serve(rigged, scopes[2], meanwhile=lambda: rigged.clock.advance(YOUNG_SECONDS)) == 200
    assert time.monotonic() - began < WAIT_SECONDS


def test_what_waits_is_refused_once_it_does_not_fit_any_more() -> None:
    rigged = at(0.3)
    scopes = dear(rigged, 3)

    def take() -> None:
        rigged.see(0.75)

    assert serve(rigged, scopes[2], meanwhile=take) == 503
    assert rigged.guard.admission.shed == {("P2", "cost"): 1}


def test_what_is_reserved_lasts_as_long_as_the_request_is_seen_to_grow() -> None:
    rigged = at(0.3)
    dear(rigged, 2)
    for step in range(1, 5):
        rigged.clock.advance(0.5)
        rigged.see(0.3 + step / 100, seconds=0)
    assert serve(rigged, http("/cold")) == 200
    late = http("/report/9")
    assert rigged.guard.admission.enter(late) is None
    began = time.monotonic()
    assert serve(rigged, late) == 200
    assert time.monotonic() - began >= WAIT_SECONDS
    rigged.clock.advance(YOUNG_SECONDS)
    assert serve(rigged, http("/report/10")) == 200


def test_a_dear_route_is_refused_where_it_does_not_fit_and_forgotten_in_time() -> None:
    rigged = at(0.3)
    for scope in dear(rigged, 1):
        rigged.guard.admission.leave(scope)
    assert rigged.guard.admission.open is None
    rigged.see(0.72, samples=3)
    assert status(rigged, "/report/9") == 503
    assert status(rigged) == 200
    rigged.clock.advance(2 * 3600)
    rigged.see(0.3, samples=20)
    assert rigged.guard.admission.open is not None, "two hours later it is forgotten"


def test_growth_is_shared_among_those_that_run() -> None:
    rigged = at(0.3)
    scopes = [http("/a"), http("/b")]
    for scope in scopes:
        rigged.guard.admission.enter(scope)
    rigged.see(0.5)
    costs = rigged.guard.admission.costs
    assert costs.expected("GET /a", rigged.clock()) == pytest.approx(LIMIT // 10, rel=0.01)


def test_what_another_process_of_the_group_takes_is_no_route_s_cost() -> None:
    """Another worker's request, or a batch beside the server; and a file that is mapped is not the group's growth."""
    rigged = at(0.30)
    rigged.reader.own = 50 * MIB
    rigged.see(0.31)
    rigged.guard.admission.enter(http("/small"))
    rigged.see(0.60)
    costs = rigged.guard.admission.costs
    assert len(costs) == 0
    rigged.reader.own = 150 * MIB
    rigged.see(0.61)
    assert costs.expected("GET /small", rigged.clock()) == pytest.approx(100 * MIB, rel=0.01)
    rigged.reader.own = 500 * MIB
    rigged.see(0.62)
    most = costs.expected("GET /small", rigged.clock())
    assert most == pytest.approx(310 * MIB, rel=0.01), "no more than the group grew since it came"


def test_a_stream_is_not_blamed_for_what_the_process_grows_by_while_it_is_open() -> None:
    """Server-sent events stay for hours, and caches fill meanwhile."""
    rigged = at(0.30)
    admission = rigged.guard.admission
    streams = [http("/events") for _ in range(3)]
    for stream in streams:
        admission.enter(stream)
    rigged.see(0.30, samples=70)
    for number in range(100):
        rigged.see(0.30 + 0.3 * number / 100)
    assert len(admission.costs) == 0
    assert admission.in_flight == 3
    request = http("/report")
    admission.enter(request)
    rigged.see(0.66)
    rigged.see(0.67)
    cost = admission.costs.expected("GET /report", rigged.clock())
    assert cost == pytest.approx(73 * MIB, rel=0.05), "and shares with no request that does take something"


def test_streams_are_no_reason_to_refuse_while_blind() -> None:
    rigged = at(0.3, thresholds=Thresholds(blind_in_flight=2))
    streams = [http("/events") for _ in range(5)]
    for stream in streams:
        assert rigged.guard.admission.enter(stream) is None
    rigged.see(0.3, samples=61)
    rigged.see(None, samples=3)
    assert rigged.guard.state is State.BLIND
    assert [status(rigged) for _ in range(3)] == [200] * 3


def test_sockets_that_have_gone_are_counted_no_longer() -> None:
    """Also where two instances with one guard stand behind each other, and each lets it in."""
    rigged = at(0.3, thresholds=Thresholds(blind_in_flight=2))
    admission = rigged.guard.admission
    sockets: list[dict[str, object]] = [{"type": "websocket", "path": "/live", "headers": []} for _ in range(5)]
    for call in (admission.enter, admission.enter, admission.leave, admission.leave):
        for socket in sockets:
            call(socket)
    rigged.see(None, samples=3)
    assert [admission.enter(http()) is None for _ in range(3)] == [True, True, False]


def test_fewer_requests_at_a_time_while_shedding_does_not_stop_the_growth() -> None:
    rigged = at(0.3, reserve="1MiB")
    rigged.chance = 0.999
    running = [http() for _ in range(20)]
    for scope in running:
        assert rigged.guard.admission.enter(scope) is None
    for step in range(20):
        rigged.see(0.80 + step / 1000)
    for scope in running[10:]:
        rigged.guard.admission.leave(scope)
    assert rigged.guard.state is State.SHED
    assert status(rigged) == 503
    assert rigged.guard.admission.shed == {("P2", "concurrency"): 1}
    rigged.see(0.80, samples=20)
    assert status(rigged) == 200


def test_a_handshake_is_refused_while_shedding() -> None:
    scope = http(type="websocket")
    del scope["method"]
    assert at(0.75).guard.admission.enter(scope) is None
    for share in (0.81, 0.95):
        rigged = at(share)
        refusal = rigged.guard.admission.enter(scope)
        assert refusal is not None
        assert refusal.status == 503


def test_a_preflight_of_a_hot_page_is_let_in_under_brake() -> None:
    """Its GET is answered there too; the middleware knows which paths are hot."""
    rigged = at(0.95)
    preflight = http("/hot/1", "OPTIONS", (b"access-control-request-method", b"GET"))
    assert rigged.guard.admission.enter(preflight, is_hot=True) is None
    assert status(rigged, "/cold", "OPTIONS") == 503


def test_a_priority_function_that_raises_costs_no_request(caplog: pytest.LogCaptureFixture) -> None:
    def broken(scope: object) -> int:
        raise ZeroDivisionError

    rigged = at(0.81, priority=broken, reserve="1MiB")
    for _ in range(3):
        assert status(rigged) == 200
    assert rigged.guard.admission.errors == 3
    assert len([record for record in caplog.records if record.exc_info]) == 1


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], 0),
        ([(b"content-length", b"0")], 0),
        ([(b"host", b"x"), (b"content-length", b"12")], 12),
        ([(b"transfer-encoding", b"chunked")], None),
        ([(b"content-length", b"-1")], None),
    ],
)
def test_the_length_of_a_body(headers: list[tuple[bytes, bytes]], length: int | None) -> None:
    assert body_length(headers) == length
