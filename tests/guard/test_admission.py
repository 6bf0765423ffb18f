"""Who is let in to the app, in each state, by priority, body, cost and number."""

from __future__ import annotations

import pytest

from hotpath.guard.admission import CLOSES_PER_SECOND, chance_of_refusal
from hotpath.guard.bodies import body_length
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


def test_shed_refuses_writes_first_and_reads_near_brake() -> None:
    for share, reads, writes in (
        (0.80, (0.0, 0.0), (0.0, 0.99)),
        (0.84, (0.0, 0.0), (0.9, 0.9)),
        (0.89, (0.7, 0.7), (1, 1)),
    ):
        rigged = at(share, reserve="1MiB")
        assert rigged.guard.state is State.SHED
        for method, (low, high) in (("GET", reads), ("POST", writes)):
            rigged.chance = max(0.0, low - 0.05)
            refused_low = status(rigged, "/cold", method)
            rigged.chance = min(0.999, high + 0.25)
            refused_high = status(rigged, "/cold", method)
            assert refused_low == (503 if low else 503 if method == "POST" else 200), (share, method)
            assert refused_high == (503 if high == 1 else 200), (share, method)


def test_chances_rise_with_the_share_and_as_time_runs_out() -> None:
    def asked(share: float, seconds: float = 1e9) -> tuple[float, float]:
        found = chances(Outlook(0.0, share, 0, 0.0, seconds, 0), Thresholds())
        return found.p2, found.p3

    shares = [asked(share / 1000) for share in range(700, 1001)]
    assert shares == sorted(shares)
    assert asked(0.72) == (0.0, 0.0)
    assert asked(0.85) == pytest.approx((0.0, 1.0))
    assert asked(0.90) == (1.0, 1.0)
    times = [asked(0.75, 8 - tenth / 10) for tenth in range(80)]
    assert times == sorted(times)
    assert times[0][1] < 0.3
    assert times[-1] == (1.0, 1.0)
    assert asked(0.5, 1.0) == (0.0, 0.0), "below the first watermark no growth refuses"


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
    for size, expected in ((300, 200), (400, 503), (501, 413)):
        assert status(rigged, "/up", "PUT", (b"content-length", b"%d" % (size * MIB))) == expected
    assert status(rigged, "/up", "PUT", (b"content-length", b"many")) == 200, "the server's to refuse"


def test_a_dear_route_is_reserved_for() -> None:
    rigged = at(0.3)
    first = http("/report/7")
    assert rigged.guard.admission.enter(first) is None
    rigged.see(0.6)
    rigged.guard.admission.leave(first)
    rigged.see(0.3)
    assert rigged.guard.admission.open is None
    # 300 MiB each of the 692 that are left.
    scopes = [http(f"/report/{number}") for number in range(3)]
    assert [rigged.guard.admission.enter(scope) is None for scope in scopes] == [True, True, False]
    assert status(rigged, "/cold") == 200, "another route"
    assert rigged.guard.admission.shed == {("P2", "cost"): 1}
    for scope in scopes:
        rigged.guard.admission.leave(scope)
    assert status(rigged, "/report/9") == 200
    rigged.clock.advance(2 * 3600)
    rigged.see(0.3)
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


def test_what_was_reserved_for_a_stream_is_not_kept_for_hours() -> None:
    rigged = at(0.3)
    admission = rigged.guard.admission
    admission.costs.note("GET /events", 300 * MIB, rigged.clock())
    streams = [http("/events") for _ in range(3)]
    assert [admission.enter(stream) is None for stream in streams] == [True, True, False]
    rigged.see(0.3, samples=61)
    assert admission.enter(streams[2]) is None


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
