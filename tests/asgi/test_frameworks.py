"""A function that is an endpoint and a hot route: what the framework does for a request, the batch does not."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from fastapi import Depends, FastAPI, Query, Request
from pydantic import BaseModel
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.run import build
from hotpath.errors import BuildFailed, DeclarationError
from hotpath.site import Hotpath


class Row(BaseModel):
    name: str


@dataclass
class Plain:
    name: str


@pytest.fixture
def hot(tmp_path: Path) -> Hotpath:
    return Hotpath(tmp_path / "hot")


def rows() -> list[dict[str, str]]:
    return [{"name": "kim", "password_hash": "secret"}]


@pytest.mark.parametrize("model", [Row, list[Row], dict[str, Row | None], Plain, list[Plain]])
@pytest.mark.parametrize("registered", [False, True])
def test_a_response_model_that_is_not_applied_is_told(
    hot: Hotpath, caplog: pytest.LogCaptureFixture, model: Any, registered: bool
) -> None:
    api = FastAPI()
    api.get("/users", response_model=model)(hot.route("/users")(rows))
    with caplog.at_level(logging.WARNING, "hotpath"):
        if registered:
            api.add_middleware(HotpathMiddleware, hot=hot)
            api.middleware_stack = api.build_middleware_stack()
        else:
            HotpathMiddleware(api, hot=hot)
    (told,) = caplog.messages
    assert told.startswith("hotpath: /users: response_model ")
    assert "is not applied to the hot page" in told
    assert "test_frameworks.py:" in told


@pytest.mark.parametrize("model", [None, dict[str, Any], list[dict[str, str]], Any])
def test_one_that_leaves_nothing_out_is_not_worth_a_word(
    hot: Hotpath, caplog: pytest.LogCaptureFixture, model: Any
) -> None:
    api = FastAPI()
    api.get("/users", response_model=model)(hot.route("/users")(rows))
    api.get("/others", response_model=Row)(lambda: Row(name="kim"))
    HotpathMiddleware(api, hot=hot)
    assert caplog.messages == []


def with_default(user: object = Depends(rows)) -> dict[str, bool]:
    return {"logged_in": bool(user)}


def with_query(limit: int = Query(10)) -> dict[str, int]:
    return {"limit": limit}


def with_annotated(db: Annotated[object, Depends(rows)]) -> list[str]:
    return [str(db)]


def with_request(request: Request) -> list[str]:
    return [str(request)]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (with_default, "user (Depends) is filled in for a request"),
        (with_query, "limit (Query) is filled in for a request"),
        (with_annotated, "db (Depends) is filled in for a request"),
        (with_request, "request (Request) is filled in for a request"),
    ],
)
def test_what_is_filled_in_for_a_request_is_refused(hot: Hotpath, function: Callable[..., Any], told: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        hot.route("/a")(function)
    assert told in str(caught.value)
    assert "move the body into a function" in str(caught.value)


def test_what_each_gives_may_have_any_default(hot: Hotpath) -> None:
    hot.route("/a", query=["limit"], each={"limit": [10, 20]})(with_query)
    assert build(hot).published.items == 2


@pytest.mark.parametrize(("path", "wanted"), [("/a/<m>", "{m}"), ("/a/<int:m>", "{m}")])
def test_a_parameter_in_the_words_of_another_framework(hot: Hotpath, path: str, wanted: str) -> None:
    with pytest.raises(DeclarationError, match=f"is no parameter here; write {wanted}"):
        hot.route(path, each={"m": [1]})(lambda m: [m])


def test_rows_of_a_database_are_named_with_their_place(hot: Hotpath) -> None:
    def page() -> dict[str, Any]:
        db = sqlite3.connect(":memory:")
        db.row_factory = sqlite3.Row
        found = db.execute("SELECT 1 AS a").fetchall()
        db.close()
        return {"items": found}

    hot.route("/a")(page)
    with pytest.raises(BuildFailed) as caught:
        build(hot)
    problem = caught.value.failures[0].problem
    assert problem == "$.items[0] is a Row, which JSON does not have; write dict(row)"


def test_keep_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="keep='5': write how many generations stay"):
        Hotpath(tmp_path, keep="5")  # type: ignore[arg-type]


class SecurityHeadersMiddleware:
    """Stands for the many that add CSP, HSTS and the like."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@pytest.mark.parametrize(
    ("middleware", "declared", "bypass", "advice"),
    [
        (TrustedHostMiddleware, {}, None, "hosts="),
        (TrustedHostMiddleware, {"headers": {"X-A": "b"}}, None, "hosts="),
        (TrustedHostMiddleware, {"hosts": ("a.org",)}, None, None),
        (HTTPSRedirectMiddleware, {}, None, "bypass="),
        (HTTPSRedirectMiddleware, {}, bool, None),
        (HTTPSRedirectMiddleware, {"headers": {"Strict-Transport-Security": "max-age=1"}}, None, None),
        (SecurityHeadersMiddleware, {}, None, "headers="),
        (SecurityHeadersMiddleware, {"headers": {"X-A": "b"}}, None, None),
        (GZipMiddleware, {}, None, None),
    ],
)
@pytest.mark.parametrize("place", ["registered", "around", "below"])
def test_a_middleware_that_hot_pages_never_meet_is_named_once(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    middleware: Any,
    declared: dict[str, Any],
    bypass: Any,
    advice: str | None,
    place: str,
) -> None:
    api = FastAPI()
    app: Any = api
    if place == "around":
        app = middleware(api)
    else:
        api.add_middleware(middleware)
    hot = Hotpath(tmp_path / "hot", **declared)
    with caplog.at_level(logging.WARNING, "hotpath"):
        for _ in range(2):
            if place == "below":
                HotpathMiddleware(api.build_middleware_stack(), hot=hot, bypass=bypass)
            else:
                HotpathMiddleware(app, hot=hot, bypass=bypass)
    assert len(caplog.messages) == (advice is not None)
    assert all(middleware.__name__ in message and advice in message for message in caplog.messages if advice)


@pytest.mark.parametrize(
    ("settings", "declared", "bypass", "advice"),
    [
        ({"ALLOWED_HOSTS": ["a.org", ".b.org"]}, {}, None, ["hosts=('a.org', '*.b.org')"]),
        ({"ALLOWED_HOSTS": ["a.org"]}, {"hosts": ("a.org",)}, None, []),
        ({"ALLOWED_HOSTS": ["*"]}, {}, None, []),
        ({"SECURE_HSTS_SECONDS": 60}, {}, None, ["headers="]),
        ({"SECURE_HSTS_SECONDS": 60}, {"headers": {"X-A": "b"}}, None, []),
        ({"SECURE_SSL_REDIRECT": True}, {}, None, ["bypass="]),
        ({"SECURE_SSL_REDIRECT": True}, {}, bool, []),
    ],
)
def test_what_django_checks_is_named(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    declared: dict[str, Any],
    bypass: Any,
    advice: list[str],
) -> None:
    defaults = {"ALLOWED_HOSTS": [], "SECURE_HSTS_SECONDS": 0, "SECURE_SSL_REDIRECT": False}
    monkeypatch.setattr("django.conf.settings", SimpleNamespace(**defaults | settings))
    handler = ASGIHandler.__new__(ASGIHandler)  # its __init__ loads all that is installed
    with caplog.at_level(logging.WARNING, "hotpath"):
        HotpathMiddleware(handler, hot=Hotpath(tmp_path / "hot", **declared), bypass=bypass)
    assert len(caplog.messages) == len(advice)
    assert all(text in message for text, message in zip(advice, caplog.messages, strict=True))
