"""Declarations: what is wrong fails before anything is run, at the line to change, with what to write instead."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotpath.errors import DeclarationError
from hotpath.pages import routes
from hotpath.site import Hotpath


@pytest.fixture
def hot(tmp_path: Path) -> Hotpath:
    return Hotpath(tmp_path / "hot")


def keys(hot: Hotpath) -> list[str]:
    return [item.key for item in hot.plan()]


def test_directories_alone_need_no_batch(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path)
    hot.directory("/a/{n}", "a/{n}.json")
    with pytest.raises(DeclarationError, match="without a build"):
        hot.plan()


@pytest.mark.parametrize("root", ["", "a\0b", None, 7, b"hot", "~/hot", "$HOME/hot"])
def test_a_root_that_cannot_be_meant_is_refused(root: Any) -> None:
    with pytest.raises(DeclarationError, match="root="):
        Hotpath(root)


def test_a_product_of_lists(hot: Hotpath) -> None:
    @hot.route("/rankings/{market}/{metric}", each={"market": ["kospi", "nyse"], "metric": ["pe", "pb"]})
    def rankings(market: str, metric: str) -> None: ...

    assert keys(hot) == ["/rankings/kospi/pe", "/rankings/kospi/pb", "/rankings/nyse/pe", "/rankings/nyse/pb"]
    assert hot.plan()[0].file == "rankings/kospi/pe.json"


def test_an_iterable_of_dicts_is_read_once_and_can_be_planned_twice(hot: Hotpath) -> None:
    @hot.route("/stocks/{ticker}", each=({"ticker": ticker} for ticker in ("A", "B")))
    def stock(ticker: str) -> None: ...

    assert keys(hot) == keys(hot) == ["/stocks/A", "/stocks/B"]


def test_a_callable_is_asked_when_the_batch_plans_not_before(hot: Hotpath) -> None:
    asked = []

    def tickers() -> Iterator[dict[str, object]]:
        asked.append(1)
        yield {"ticker": 5930}

    @hot.route("/stocks/{ticker}", each=tickers)
    def stock(ticker: int) -> None: ...

    assert not asked
    assert keys(hot) == ["/stocks/5930"]
    assert asked


def test_no_parameters_and_the_function_comes_back_unchanged(hot: Hotpath) -> None:
    def robots() -> str:
        return "User-agent: *"

    assert hot.route("/robots.txt")(robots) is robots
    item = hot.plan()[0]
    assert (item.key, item.file) == ("/robots.txt", "robots.txt")
    assert item.route.policy.media_type == "text/plain; charset=utf-8"


def test_values_that_are_not_ascii_make_an_encoded_key_and_a_readable_file(hot: Hotpath) -> None:
    hot.route("/s/{name}", each={"name": ["삼성 전자"]})(lambda name: {})
    item = hot.plan()[0]
    assert item.key == "/s/%EC%82%BC%EC%84%B1%20%EC%A0%84%EC%9E%90"
    assert item.file == "s/삼성 전자.json"


def test_query_parameters_are_part_of_key_and_file(hot: Hotpath) -> None:
    hot.route("/top/{m}", each=[{"m": "a", "n": 10}, {"m": "a", "n": None}], query=("n",))(lambda m, n: {})
    assert [(item.key, item.file) for item in hot.plan()] == [
        ("/top/a?n=10", "top/a@10.json"),
        ("/top/a", "top/a@.json"),
    ]


def test_more_than_the_path_needs_goes_to_the_function_and_the_file(hot: Hotpath) -> None:
    hot.route("/s/{slug}", each=[{"slug": "a", "table": "t1"}], file="by-table/{table}/{slug}.json")(
        lambda slug, table: {}
    )
    assert hot.plan()[0].file == "by-table/t1/a.json"
    assert hot.plan()[0].arguments == {"slug": "a", "table": "t1"}


def test_the_root_page_has_a_file(hot: Hotpath) -> None:
    hot.route("/", media_type="text/html")(lambda: "<p>")
    assert hot.plan()[0].file == "index.html"
    assert hot.plan()[0].route.policy.media_type == "text/html; charset=utf-8"


WRONG_ROUTES: list[tuple[dict[str, Any], Callable[..., Any], str]] = [
    ({"path": "/r/{m}"}, lambda m: 0, r"needs 'm', and each= gives nothing; write each="),
    ({"path": "/r/{m}", "each": {"x": [1]}}, lambda x: 0, r"needs 'm', and each= gives 'x'"),
    ({"path": "/r/{m}", "each": {"m": "KOSPI"}}, lambda m: 0, r"is no list of values; write \['KOSPI'\]"),
    ({"path": "/r/{m}", "each": {"m": 3}}, lambda m: 0, "is no list"),
    ({"path": "/r/{m}", "each": {"m": [1]}}, lambda: 0, r"write def .*\(m\)"),
    ({"path": "/r/{m}", "each": {"m": [1]}}, lambda m, more: 0, "missing a required argument: 'more'"),
    ({"path": "/r/{m}", "each": {"m": [1]}, "file": "../{m}.json"}, lambda m: 0, "could leave the generation"),
    ({"path": "/r/{m}", "each": {"m": [1]}, "file": "all.json"}, lambda m: 0, r"lacks \{m\}"),
    ({"path": "/r/{m}", "each": {"m": [1]}, "file": "{m}{n}.json"}, lambda m: 0, "does not give 'n'"),
    ({"path": "/r/{m}", "each": "KOSPI"}, lambda m: 0, "write a dict of lists"),
    ({"path": "r"}, lambda: 0, "write '/r'"),
    ({"path": "/r", "query": "m"}, lambda: 0, r"write query=\('m',\)"),
    ({"path": "/r", "required": "pe"}, lambda: 0, r"write required=\('pe',\)"),
    ({"path": "/r", "headers": {"ETag": "x"}}, lambda: 0, "hotpath makes it"),
    ({"path": "/r", "headers": {"Set-Cookie": "x"}}, lambda: 0, "public"),
    ({"path": "/r", "headers": {"X-A": "a\r\nb"}}, lambda: 0, "one line"),
    ({"path": "/r", "headers": {"X A": "a"}}, lambda: 0, "no field name"),
    ({"path": "/r", "cache_control": "a\nb"}, lambda: 0, "cache_control"),
    ({"path": "/r", "lifetime": "soon"}, lambda: 0, "26h"),
]


@pytest.mark.parametrize(("options", "function", "told"), WRONG_ROUTES, ids=[told for _, _, told in WRONG_ROUTES])
def test_wrong_routes_fail_when_declared_and_name_the_line(
    hot: Hotpath, options: dict[str, Any], function: Callable[..., Any], told: str
) -> None:
    with pytest.raises(DeclarationError, match=told) as caught:
        hot.route(options.pop("path"), **options)(function)
    line = function.__code__.co_firstlineno
    assert caught.value.where == f"{__file__}:{line}"
    assert not hot.routes


def test_a_duplicate_route_names_the_first(hot: Hotpath) -> None:
    hot.route("/r/{a}", each={"a": [1]})(lambda a: 0)
    with pytest.raises(DeclarationError, match=r"declared twice, first at .*test_site.py:\d+"):
        hot.route("/r/{b}", each={"b": [1]})(lambda b: 0)


def _no_items() -> list[dict[str, object]]:
    return []


def _raises() -> list[dict[str, object]]:
    raise OSError("no database")


def _raises_later() -> Iterator[dict[str, object]]:
    yield {"m": "kospi"}
    raise OSError("the database went away")


WRONG_ITEMS: list[tuple[dict[str, Any], str]] = [
    ({"each": {"m": ["a", "a"]}}, "two items have the key '/r/a'"),
    ({"each": {"m": ["A", "a"]}, "fold_case": True}, "two items have the key '/r/a'"),
    ({"each": [{"m": "../x"}]}, r"m='../x'.*one path segment"),
    ({"each": [{"m": ".."}]}, "dot segment"),
    ({"each": [{"m": "\udcff"}]}, "one path segment"),
    ({"each": [{"m": 1.5}]}, "float"),
    ({"each": [{"x": 1}]}, "needs 'm'"),
    ({"each": ["kospi"]}, "expected a dict"),
    ({"each": _no_items}, "gave no items"),
    ({"each": _raises}, "OSError: no database"),
    ({"each": _raises_later}, "OSError: the database went away"),
    ({"each": {"m": []}}, "gave no items"),
]


@pytest.mark.parametrize(("options", "told"), WRONG_ITEMS, ids=[told for _, told in WRONG_ITEMS])
def test_wrong_items_fail_before_anything_is_run(hot: Hotpath, options: dict[str, Any], told: str) -> None:
    ran = []

    def page(m: object) -> None:
        ran.append(m)

    hot.route("/r/{m}", **options)(page)
    with pytest.raises(DeclarationError, match=told) as caught:
        hot.plan()
    assert caught.value.where
    assert caught.value.where.startswith(__file__)
    assert not ran


def test_an_each_without_an_end_is_told_of(hot: Hotpath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_ITEMS", 1000)
    hot.route("/r/{m}", each=lambda: ({"m": number} for number in itertools.count()))(lambda m: 0)
    with pytest.raises(DeclarationError, match="is past 1,000 items, and may have no end"):
        hot.plan()


def test_two_routes_with_one_item_or_one_file(hot: Hotpath) -> None:
    hot.route("/r/{m}", each={"m": ["all"]})(lambda m: 0)
    hot.route("/r/all")(lambda: 0)
    with pytest.raises(DeclarationError, match="two items have the key '/r/all'"):
        hot.plan()
    other = Hotpath(hot.store.root)
    other.route("/a")(lambda: 0)
    other.route("/a.json")(lambda: 0)
    with pytest.raises(DeclarationError, match=r"two items have the file 'a.json'"):
        other.plan()


def test_nothing_declared(hot: Hotpath) -> None:
    with pytest.raises(DeclarationError, match=r"@hot.route"):
        hot.plan()


def test_wrong_directories(hot: Hotpath, tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"same \{fields\}") as caught:
        hot.directory("/i/{name}", tmp_path / "{other}.json")
    assert caught.value.where
    assert caught.value.where.startswith(__file__)
    hot.directory("/i/{name}", tmp_path / "{name}.json")
    with pytest.raises(DeclarationError, match="declared twice"):
        hot.directory("/i/{name}", tmp_path / "other" / "{name}.json")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"keep": 0}, "keep=0"),
        ({"refresh": 0}, "refresh=0"),
        ({"max_body_bytes": "much"}, "max_body_bytes='much'"),
        ({"lifetime": -1}, "lifetime=-1"),
        ({"cache_control": ""}, "cache_control=''"),
    ],
)
def test_wrong_options_fail_when_constructed(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(DeclarationError, match=told):
        Hotpath(tmp_path, **options)


def test_a_relative_store_stays_where_it_was_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hot = Hotpath("var/hot")
    monkeypatch.chdir("/")
    assert hot.store.root == tmp_path / "var" / "hot"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"hosts": "example.org"}, r"write hosts=\('example.org',\)"),
        ({"hosts": ()}, "would answer nobody"),
        ({"hosts": ("https://example.org",)}, "without scheme and port"),
        ({"hosts": ("example.org:443",)}, "without scheme and port"),
        ({"hosts": ("*",)}, "hosts holds"),
        ({"hosts": ("a.*.org",)}, "without scheme"),
        ({"hosts": ("münchen.de",)}, "punycode"),
        ({"headers": {"ETag": "x"}}, "hotpath makes it"),
        ({"headers": {"Set-Cookie": "x"}}, "public"),
        ({"ignore_query": "ref"}, r"write ignore_query=\('ref',\)"),
        ({"ignore_query": ("*",)}, "ignore_query holds"),
        ({"ignore_query": ("",)}, "ignore_query holds"),
        ({"ignore_query": (1,)}, "ignore_query holds 1"),
    ],
)
def test_wrong_options_of_a_whole_site(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(DeclarationError, match=told):
        Hotpath(tmp_path, **options)
