"""Who may see the page, and what goes over the wire."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import anyio
import orjson
import pytest

from hotpath.asgi.access_log import HotpathRequest
from hotpath.batch.run import build
from hotpath.dashboard import Dashboard
from hotpath.errors import DeclarationError
from hotpath.site import Hotpath
from hotpath.testing import Response, asgi_get

TOKEN = "0123456789abcdef-of-chance"
LOCAL = ("127.0.0.1", 5000)


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> Hotpath:
    hot = Hotpath(tmp_path_factory.mktemp("site") / "hot")
    hot.route("/a/{n}", each={"n": [1, 2]})(lambda n: {"rows": [n]})
    build(hot)
    return hot


def ask(
    app: Dashboard, target: str = "/", headers: Mapping[str, str] | None = None, client: Any = LOCAL, **fields: Any
) -> Response:
    given = {"host": "localhost:9190"} | dict(headers or {})
    pairs = [(name.encode(), value.encode()) for name, value in given.items()]

    async def get() -> Response:
        return await asgi_get(app, target, headers=pairs, client=client, **fields)

    return anyio.run(get)


def test_this_machine_sees_the_page_with_a_policy_that_names_its_only_style_and_script(hot: Hotpath) -> None:
    answer = ask(Dashboard(hot=hot))
    assert answer.status == 200
    assert b"2<small> of 2</small>" in answer.body
    policy = answer.header("content-security-policy") or ""
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    for name in (b"style", b"script"):
        (inside,) = re.findall(b"<%b>(.*?)</%b>" % (name, name), answer.body, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(inside).digest()).decode() in policy
    assert answer.header("cross-origin-resource-policy") == "same-origin"
    assert answer.header("x-frame-options") == "DENY"
    assert answer.header("cache-control") == "no-store"
    assert answer.header("access-control-allow-origin") is None
    assert b" style=" not in answer.body
    assert ask(Dashboard(hot=hot), method="HEAD").body == b""
    assert ask(Dashboard(hot=hot), method="POST").status == 405


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9190", "[::1]:9190", "10.0.0.7", "a.localhost:80"])
def test_an_address_or_localhost_may_ask(hot: Hotpath, host: str) -> None:
    assert ask(Dashboard(hot=hot), headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9190", "", "localhost.evil.example", "127.0.0.1.nip.io"]
)
def test_a_name_that_leads_here_by_dns_is_refused(hot: Hotpath, host: str) -> None:
    answer = ask(Dashboard(hot=hot), headers={"host": host})
    assert (answer.status, b"generation" in answer.body) == (421, False)


def test_further_names_can_be_given(hot: Hotpath) -> None:
    named = Dashboard(hot=hot, hosts=["Status.example.org"])
    assert ask(named, headers={"host": "status.example.org:443"}).status == 200
    assert ask(named, headers={"host": "other.example.org"}).status == 421


@pytest.mark.parametrize(
    ("headers", "client", "fields"),
    [
        ({}, ("192.0.2.7", 5000), {}),
        ({}, ("::ffff:192.0.2.7", 5000), {}),
        ({}, None, {}),
        ({"x-forwarded-for": "127.0.0.1"}, LOCAL, {}),
        ({"via": "1.1 proxy"}, LOCAL, {}),
        ({}, LOCAL, {"http_version": "1.0"}),
    ],
)
def test_without_a_token_nobody_else_sees_it(hot: Hotpath, headers: Any, client: Any, fields: Any) -> None:
    for target in ("/", "/?events=1"):
        answer = ask(Dashboard(hot=hot), target, headers, client, **fields)
        assert (answer.status, b"generation" in answer.body) == (403, False)


def test_a_token_is_taken_by_field_cookie_and_address_and_by_nothing_like_it(hot: Hotpath) -> None:
    app = Dashboard(hot=hot, token=TOKEN)
    assert ask(app).status == 401
    assert ask(app, "/?events=1").status == 401
    for wrong in ("", "x", TOKEN[:-1], TOKEN + "x", "ü" * 20):
        assert ask(app, headers={"authorization": f"Bearer {wrong}"}).status == 401
        assert ask(app, headers={"cookie": f"hotpath_dashboard={wrong}"}).status == 401
    assert ask(app, headers={"cookie": f"hotpath_dashboard={TOKEN}"}).status == 401
    assert ask(app, headers={"authorization": f"Bearer {TOKEN}"}, client=("192.0.2.7", 1)).status == 200
    given = ask(app, f"/?token={TOKEN}", scheme="https")
    cookie = given.header("set-cookie") or ""
    assert (given.status, given.header("location")) == (303, "/")
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
        "httponly",
        "path=/",
        "samesite=strict",
        "secure",
    }
    assert TOKEN not in cookie
    again = ask(app, headers={"cookie": cookie.partition(";")[0]}, client=("192.0.2.7", 1))
    assert again.status == 200
    assert ask(app, "/?token=wrong").status == 401
    assert ask(app, f"//evil.example/?token={TOKEN}").header("location") == "/evil.example/"
    assert b"evil" not in ask(app, "//evil.example/").body


@pytest.mark.parametrize("is_async", [False, True])
def test_behind_a_login_of_ones_own_that_decides(hot: Hotpath, is_async: bool) -> None:
    def allow(scope: Any) -> bool:
        return bool(scope.get("user") == "admin")

    async def allow_later(scope: Any) -> bool:
        return allow(scope)

    app = Dashboard(hot=hot, allow=allow_later if is_async else allow)
    elsewhere = {"host": "www.example.org", "x-forwarded-for": "192.0.2.7"}
    assert ask(app, headers=elsewhere, user="admin").status == 200
    assert ask(app, headers=elsewhere).status == 403


def test_a_stream_has_only_what_is_new_and_ends(hot: Hotpath) -> None:
    app = Dashboard(hot=hot)
    seen = re.search(rb'data-versions="([^"]+)"', ask(app).body)
    assert seen is not None
    first = ask(app, "/?events=1")
    assert first.header("content-type") == "text/event-stream; charset=utf-8"
    assert set(news(first)) >= {"headline", "now", "waiting", "runs"}
    known = re.search(rb"^id: (.+)$", first.body, re.MULTILINE)
    assert known is not None
    assert known[1] == seen[1]
    assert news(ask(app, "/?events=1", {"last-event-id": known[1].decode()})) == {}


def news(answer: Response) -> dict[str, str]:
    found = re.search(rb"^data: (.+)$", answer.body, re.MULTILINE)
    assert found is not None
    sections: dict[str, str] = orjson.loads(found[1])["sections"]
    return sections


@pytest.mark.parametrize(("path", "status"), [("/status/", 200), ("/status", 200), ("/status/x", 404)])
def test_below_a_mount_point_only_its_root_is_the_page(hot: Hotpath, path: str, status: int) -> None:
    assert ask(Dashboard(hot=hot), path, root_path="/status").status == status


def test_requests_that_the_middleware_tells_of_are_counted(hot: Hotpath) -> None:
    app = Dashboard(hot=hot)
    for result in ("hit", "not_modified", "miss", "shed", "error"):
        app.observe(HotpathRequest(0.0, "GET", "/", 200, result, None, 0, 500.0, "identity"))
    (minute,) = app.sources.traffic.minutes()
    assert (minute.hot, minute.cold, sum(minute.hot_seconds), sum(minute.cold_seconds)) == (2, 3, 2, 1)
    assert b"40.0% of 5 requests" in ask(app).body


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"hot": "var/hot"}, "give the Hotpath object"),
        ({"token": "short"}, "16 or more"),
        ({"token": "ü" * 20}, "ASCII"),
        ({"hosts": "example.org"}, "write names"),
        ({"allow": True}, "a function"),
        ({"guard": 5}, "give the MemoryGuard"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(hot: Hotpath, options: Any, problem: str) -> None:
    with pytest.raises(DeclarationError, match=problem):
        Dashboard(**({"hot": hot} | options))


def test_it_speaks_http_only(hot: Hotpath) -> None:
    with pytest.raises(ValueError, match="HTTP only"):
        ask(Dashboard(hot=hot), type="websocket")
