"""An error with status 200 is refused from the second night on; pages that look a little like one are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hotpath.batch.error_payload import had_more, may_be_error
from hotpath.batch.reports import last_run
from hotpath.batch.run import build
from hotpath.errors import Implausible
from hotpath.site import Hotpath
from hotpath.store.quarantine import approve

PAGE = {"error": None, "data": [1, 2, 3]}

ERRORS: list[dict[str, Any]] = [
    {"error": "no connection"},
    {"error": {"code": 500, "message": "backend", "status": "INTERNAL"}},
    {"detail": "Internal Server Error"},
    {"detail": [{"loc": ["query"], "msg": "field required"}]},
    {"errors": [{"message": "timeout"}], "data": None},
    {"message": "too many requests", "code": 500},
    {"status": "error"},
    {"status": "FAILED", "data": {}},
    {"success": False, "data": []},
    {"type": "about:blank", "title": "Bad gateway", "status": 502, "instance": "/x"},
    {"timestamp": "2026-11-28", "status": 500, "error": "Internal Server Error", "path": "/x"},
    {"statusCode": 503, "request_id": "af3"},
]

PAGES: list[Any] = [
    PAGE,
    {"error": None, "data": []},
    {"error": "", "data": None},
    {"errors": [], "data": {"a": 1}},
    {"error": "partial", "data": [1]},
    {"status": "ok", "data": []},
    {"status": "ok", "message": None},
    {"code": 200, "data": [1]},
    {"code": 0},
    {"success": True},
    {"message": "hello", "stocks": [1]},
    {"message": "nothing was found", "stocks": []},
    {"error": False, "code": 0},
    {"error": 0, "message": "ok", "rows": []},
    {"errors": 0, "timestamp": 5},
    {"title": "An article", "details": "a text", "tags": []},
    {},
    [],
    [{"error": "a row"}],
    "error",
    None,
    5,
]


@pytest.mark.parametrize("payload", ERRORS)
def test_an_error_looks_like_one(payload: dict[str, Any]) -> None:
    assert may_be_error(payload)
    assert not had_more(payload)


@pytest.mark.parametrize("payload", PAGES)
def test_a_page_does_not(payload: Any) -> None:
    assert not may_be_error(payload)


@pytest.mark.slow
@pytest.mark.parametrize("night", [2, 3, 5, 16])
@pytest.mark.parametrize("before", [PAGE, {"a": 1}, [1]])
def test_an_error_is_refused_on_every_night_but_the_first(tmp_path: Path, night: int, before: Any) -> None:
    served = [before]
    hot = Hotpath(tmp_path)
    hot.route("/a")(lambda: served[-1])
    hot.route("/b")(lambda: {"b": 1})
    for _ in range(night - 1):
        build(hot)
    for error in ERRORS if night == 2 else ERRORS[:1]:
        served.append(error)
        with pytest.raises(Implausible) as caught:
            build(hot)
        assert caught.value.problems[0] == (
            "/a: an error is in the place of the page: expected the members that it had the night before,"
            " found only members of an error"
        )
    assert hot.store.chosen_sequence() == night - 1
    served.append(before)
    build(hot)


@pytest.mark.slow
@pytest.mark.parametrize("payload", [page for page in PAGES if not isinstance(page, str | None)])
def test_a_page_that_becomes_another_page_is_published(tmp_path: Path, payload: Any) -> None:
    served: list[Any] = [{"error": None, "data": [1, 2], "stocks": [1]}]
    hot = Hotpath(tmp_path)
    hot.route("/a")(lambda: served[-1])
    build(hot)
    served.append(payload)
    assert build(hot).published.generation == 2


def test_a_page_that_always_looks_like_an_error_is_published(tmp_path: Path) -> None:
    served = [{"message": "hello"}]
    hot = Hotpath(tmp_path)
    hot.route("/a")(lambda: served[-1])
    build(hot)
    served.append({"message": "good morning"})
    assert build(hot).published.generation == 2


def test_a_page_that_is_approved_once_is_published_after_that(tmp_path: Path) -> None:
    served: list[dict[str, Any]] = [{"open": [1]}]
    hot = Hotpath(tmp_path)
    hot.route("/a")(lambda: served[-1])
    build(hot)
    served.append({"message": "closed for the winter"})
    with pytest.raises(Implausible) as caught:
        build(hot)
    approve(hot.store, caught.value.sequence, "it is winter")
    assert build(hot).published.generation == 3


def test_one_error_among_many_pages_is_found(tmp_path: Path) -> None:
    broken: list[int] = []
    hot = Hotpath(tmp_path)
    hot.route("/p/{n}", each={"n": range(30)})(lambda n: {"error": "none"} if n in broken else {"n": n})
    build(hot)
    broken.append(7)
    with pytest.raises(Implausible):
        build(hot)
    run = last_run(hot.store)
    assert run is not None
    assert [finding["subject"] for finding in run["findings"]] == ["/p/7"]
