"""The guard's answers: what is in them, in which form, for whom."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from hotpath.errors import DeclarationError
from hotpath.guard.refusal import MAX_RETRY_SECONDS, Refusals, check_fields, wants_problem
from tests.guard.fakes import Rigged, http


def sent(scope: dict[str, Any], *, status: int = 503, wait: float = 15.0, chance: float = 0.0) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    asyncio.run(Refusals(wait).pick(status, scope["headers"], chance).send(scope, send))
    return messages


def test_503() -> None:
    """RFC 9110 §15.6.4, §10.2.3; RFC 9111 §5.2.2.5; RFC 9112 §9.6."""
    start, body = sent(http())
    headers = dict(start["headers"])
    assert (start["type"], start["status"]) == ("http.response.start", 503)
    assert headers[b"retry-after"] == b"15"
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"connection"] == b"close"
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"content-length"]) == len(body["body"])
    assert set(json.loads(body["body"])) == {"error"}


def test_the_wait_is_one_to_two_times_what_is_expected() -> None:
    waits = {int(dict(sent(http(), chance=n / 100)[0]["headers"])[b"retry-after"]) for n in range(100)}
    assert (min(waits), max(waits)) == (15, 30)
    assert len(waits) > 10
    longest = dict(sent(http(), wait=1e9, chance=0.99)[0]["headers"])[b"retry-after"]
    assert int(longest) == 2 * MAX_RETRY_SECONDS
    assert dict(sent(http(), wait=0.0)[0]["headers"])[b"retry-after"] == b"1"


def test_problem_json_for_who_asks_for_it() -> None:
    """RFC 9457."""
    start, body = sent(http("/", "GET", (b"accept", b"application/problem+json, application/json")))
    assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
    assert json.loads(body["body"])["status"] == 503
    assert not wants_problem([(b"accept", b"*/*")])


def test_413_has_no_retry() -> None:
    start, _ = sent(http(), status=413)
    assert start["status"] == 413
    assert b"retry-after" not in dict(start["headers"])


def test_head_has_the_length_and_no_body() -> None:
    start, body = sent(http("/", "HEAD"))
    assert int(dict(start["headers"])[b"content-length"]) > 0
    assert body["body"] == b""


@pytest.mark.parametrize(("version", "closes"), [("1.0", True), ("1.1", True), ("2", False), ("3", False)])
def test_connection_is_a_field_of_http_1_only(version: str, closes: bool) -> None:
    """RFC 9113 §8.2.2."""
    start, _ = sent(http(http_version=version))
    assert (b"connection" in dict(start["headers"])) is closes


def test_what_keeps_its_connection_says_nothing_of_it() -> None:
    kept = Refusals(15.0).pick(503, [], 0.0, closes=False)
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    asyncio.run(kept.send(http(), send))
    assert b"connection" not in dict(messages[0]["headers"])
    asyncio.run(kept.send(http(type="websocket", extensions={"websocket.http.response": {}}), send))
    assert dict(messages[2]["headers"])[b"connection"] == b"close", "a handshake that was refused has no other use"


def test_a_handshake_gets_503_where_the_server_can_and_a_close_elsewhere() -> None:
    scope = http(type="websocket", extensions={"websocket.http.response": {}})
    start, body = sent(scope)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
    assert body["type"] == "websocket.http.response.body"
    assert sent(http(type="websocket")) == [{"type": "websocket.close", "code": 1013}]


def test_two_answers_share_no_list() -> None:
    refusals = Refusals(1.0)
    first = refusals.pick(503, [], 0.0)
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        message.get("headers", []).append((b"set-cookie", b"secret=1"))
        messages.append(message)

    asyncio.run(first.send(http(), send))
    assert b"set-cookie" not in dict(sent(http())[0]["headers"])


def test_refusals_carry_the_fields_that_were_asked_for() -> None:
    """Without those of CORS a script in a browser sees a network error, and no Retry-After."""
    origin = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After"}
    rigged = Rigged(refusal_headers=origin)
    for share in (0.3, 0.95):
        rigged.see(share)
        refusal = rigged.guard.admission.enter(http("/cold", "POST", (b"content-length", b"99000000000")))
        assert refusal is not None
        fields = dict(refusal.headers)
        assert fields[b"access-control-allow-origin"] == b"*"
        assert fields[b"access-control-expose-headers"] == b"Retry-After"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"a b": "c"}, "'a b' is no field name"),
        ({"Retry-After": "1"}, "'Retry-After' is no field name, or one"),
        ({"a": "b\r\nc: d"}, "one line of Latin-1"),
        ({"a": "b\n"}, "one line of Latin-1"),
        ({"a": "\u20ac"}, "one line of Latin-1"),
        ({"a": 1}, "one line of Latin-1"),
    ],
)
def test_fields_that_cannot_be_sent_are_refused(headers: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        check_fields(headers)
