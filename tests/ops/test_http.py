"""One request: bounded in time and bytes, no redirect followed, certificates verified, and nothing secret told."""

from __future__ import annotations

import socket
import time
from itertools import count

import pytest

from hotpath.errors import DeclarationError, Unreachable
from hotpath.ops.http import Client, parse_url, post, within
from hotpath.ops.secret import Secret, scrubbed, shown
from tests.ops.conftest import Authority
from tests.ops.local import Answered, Asked, Server, closed_port, hang, raw_server


def client(url: str, seconds: float = 5.0) -> Client:
    return Client(url, timeout_seconds=seconds, shown="the server")


def test_an_answer_with_status_headers_and_body() -> None:
    with Server(lambda asked: Answered(404, b"no", {"X-A": "1", "x-a": "2"})) as server:
        one = client(server.url)
        reply = one.ask("GET", "/a?b=c", {"Accept-Encoding": "gzip"})
        one.close()
    assert (reply.status, reply.body, reply.headers["x-a"], reply.is_whole) == (404, b"no", "1, 2", True)
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.headers["accept-encoding"]) == ("GET", "/a?b=c", "gzip")


def test_one_connection_serves_many_requests_and_a_closed_one_is_replaced() -> None:
    accepted = count()
    seen = []

    def talk(connection: socket.socket) -> None:
        number = next(accepted)
        for _ in range(2):
            if not connection.recv(65536):
                return
            seen.append(number)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        connection.close()

    with raw_server(talk) as port:
        one = client(f"http://127.0.0.1:{port}")
        assert [one.ask("GET", "/").body for _ in range(5)] == [b"ok"] * 5
        one.close()
    assert seen == [0, 0, 1, 1, 2]


def test_a_redirect_is_an_answer() -> None:
    with Server(lambda asked: Answered(301, b"", {"Location": "http://127.0.0.1:1/"})) as server:
        one = client(server.url)
        assert one.ask("GET", "/").status == 301
        one.close()


def test_no_more_than_the_allowed_bytes_are_read() -> None:
    with Server(lambda asked: Answered(200, b"x" * 100_000)) as server:
        one = client(server.url)
        reply = one.ask("GET", "/", max_bytes=1000)
        assert (len(reply.body), reply.is_whole) == (1000, False)
        reply = one.ask("GET", "/", max_bytes=100_000)
        assert (len(reply.body), reply.is_whole) == (100_000, True)
        one.close()


def trickle(connection: socket.socket) -> None:
    """A byte now and then: every read succeeds in time, all of them together never end."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b"x")
        time.sleep(0.02)


def trickle_head(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(1000):
        connection.sendall(b"X-%d: y\r\n" % number if number < 90 else b"z")
        time.sleep(0.02)


@pytest.mark.parametrize(
    "talk", [trickle, *(pytest.param(talk, marks=pytest.mark.slow) for talk in (hang, trickle_head))]
)
def test_the_time_bounds_the_whole_exchange(talk: object) -> None:
    with raw_server(talk) as port:  # type: ignore[arg-type]
        one = client(f"http://127.0.0.1:{port}", 0.4)
        started = time.monotonic()
        with pytest.raises(Unreachable, match=r"the server: no whole answer within 0\.4 s"):
            one.ask("GET", "/")
        assert time.monotonic() - started < 10
        one.close()


def close_at_once(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.close()


def say_nonsense(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"220 mail.example.org ESMTP\r\n")
    connection.close()


def end_early(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    connection.close()


@pytest.mark.parametrize(
    ("talk", "told"),
    [
        (close_at_once, "closed without an answer"),
        (say_nonsense, "the answer is not HTTP"),
        (end_early, "ended 7 bytes too early"),
    ],
)
def test_no_whole_answer_is_said_as_what_it_is(talk: object, told: str) -> None:
    with raw_server(talk) as port:  # type: ignore[arg-type]
        one = client(f"http://127.0.0.1:{port}")
        with pytest.raises(Unreachable, match=told):
            one.ask("GET", "/")
        one.close()


def test_a_refused_connection_and_an_unknown_name() -> None:
    with pytest.raises(Unreachable, match="connection refused"):
        client(f"http://127.0.0.1:{closed_port()}").ask("GET", "/")
    with pytest.raises(Unreachable, match="cannot be resolved"):
        client(f"http://{'a' * 70}.invalid").ask("GET", "/")


def test_a_certificate_is_verified_and_an_authority_can_be_named(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(lambda asked: Answered(200, b"ok"), tls=authority.context) as server:
        with pytest.raises(Unreachable, match="certificate is not trusted"):
            client(server.url).ask("GET", "/")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        one = client(server.url)
        assert one.ask("GET", "/").body == b"ok"
        one.close()
    with (
        Server(lambda asked: Answered(200, b"ok"), tls=authority.other) as server,
        pytest.raises(Unreachable, match="certificate is not trusted"),
    ):
        client(server.url).ask("GET", "/")


def test_a_post_shows_nothing_of_a_secret_url() -> None:
    url = f"http://user:pass@127.0.0.1:{closed_port()}/hooks/T0KEN?key=K3Y"
    place = shown(url)
    assert place == f"http://127.0.0.1:{url.partition('@')[2].partition('/')[0].partition(':')[2]}/***"
    with pytest.raises(Unreachable) as told:
        post(url, b"", {}, timeout_seconds=2, shown=place)
    assert "T0KEN" not in str(told.value)
    with pytest.raises(Unreachable) as told:
        post(url, b"", {"Authorization": "Bearer T0KEN\nX: y"}, timeout_seconds=2, shown=place)
    assert "T0KEN" not in str(told.value)


@pytest.mark.parametrize("url", ["ftp://exam.ple", "exam.ple/x", "http:///p", "http://a:b", "http://a/ b", "http://ä/"])
def test_what_is_no_url_of_a_web_server(url: str) -> None:
    with pytest.raises(DeclarationError, match="--base-url"):
        parse_url(url, "--base-url")
    with pytest.raises(DeclarationError) as told:
        parse_url(url, "HOOK", secret=True)
    assert url not in str(told.value)


def test_within_passes_on_what_is_raised_and_cuts_off_what_is_late() -> None:
    assert within(5, lambda: 7, lambda: None) == 7
    with pytest.raises(KeyError):
        within(5, lambda: dict[str, int]()["a"], lambda: None)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        within(0.1, lambda: ours.recv(1), lambda: ours.shutdown(socket.SHUT_RDWR))


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret("p4ss/word+1")
    assert "p4ss" not in f"{secret} {secret!r} {[secret]} {secret:}"
    echoed = "535 p4ss/word+1 p4ss%2Fword%2B1 cDRzcy93b3JkKzE= other"
    assert scrubbed(echoed, [secret]) == "535 *** *** *** other"
    assert shown("https://hooks.example.org/services/T/B/x") == "https://hooks.example.org/***"
    assert shown("https://example.org") == "https://example.org"
    assert shown("http://[::1") == "***"


def ask_type(asked: Asked) -> Answered:
    return Answered(200, asked.headers.get("user-agent", "").encode())


def test_it_says_who_it_is() -> None:
    with Server(ask_type) as server:
        one = client(server.url)
        assert b"hotpath" in one.ask("GET", "/").body
        one.close()
