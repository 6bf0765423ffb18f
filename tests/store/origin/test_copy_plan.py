"""The copy of a site's pages as objects: which key a path has, which fields, and what has to change."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.pages.keys import canonical_path
from hotpath.pages.policy import Policy
from hotpath.pages.site_wide import ReadOptions, SiteWide
from hotpath.store.manifest import Head, Item, Manifest, Representation
from hotpath.store.origin import copy_plan
from hotpath.store.origin.copy_plan import PageObject, SitePages, object_key, pages_of, plan

JSON = Policy("/{page}", "application/json", "public, max-age=60", None, 3600)


def manifest(*items: Item, headers: tuple[tuple[str, str], ...] = ()) -> Manifest:
    site = SiteWide(ReadOptions(1.0, 0, False, False, headers=headers))
    policies = tuple(dict.fromkeys(item.policy for item in items))
    return Manifest(Head(1, 0, None, ("gzip",), policies, site), {item.key: item for item in items})


def item(key: str, body: bytes = b"[]", policy: Policy = JSON) -> Item:
    digest = hashlib.sha256(body).digest()
    coded = Representation("gzip", "f.gz", 1, hashlib.sha256(b"gzip" + body).digest())
    return Item(key, policy, (Representation("identity", "f", len(body), digest), coded), 0)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("/", "pages/index.html"),
        ("/rankings/kospi", "pages/rankings/kospi"),
        ("/docs/", "pages/docs/index.html"),
        ("/docs/index.html", "pages/docs/index.html"),
        ("/%ED%95%9C/%C3%A9", "pages/한/é"),
        ("/a%20b", "pages/a b"),
        ("/50%25", "pages/50%"),
        ("/CURRENT", "pages/CURRENT"),
        ("/.hidden/...", "pages/.hidden/..."),
        ("/" + "a" * 255, "pages/" + "a" * 255),
        ("/what%3F", "pages/what?"),
        ("/a:b@c;d=e,!$&'()*", "pages/a:b@c;d=e,!$&'()*"),
    ],
)
def test_the_key_of_a_path(key: str, expected: str) -> None:
    assert object_key(key) == (expected, None)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("/a%2Fb", copy_plan.SLASH),
        ("/a+b", copy_plan.PLUS),
        ("//a", copy_plan.EMPTY_SEGMENT),
        ("/a//", copy_plan.EMPTY_SEGMENT),
        ("/%FF", copy_plan.NO_TEXT),
        ("/a%01", copy_plan.NO_TEXT),
        ("/" + "a/" * 450 + "a", copy_plan.TOO_LONG),
        ("/docs/" + "a" * 256, copy_plan.TOO_LONG),
        ("/" + "%ED%95%9C" * 86 + "/a", copy_plan.TOO_LONG),
        ("/..", copy_plan.DOTS),
        ("/%2E%2E/CURRENT", copy_plan.DOTS),
        ("/a/./b", copy_plan.DOTS),
        ("/" + "%ED%95%9C" * 301, copy_plan.TOO_LONG),
    ],
)
def test_a_path_without_a_key_is_left_out_and_named(key: str, reason: str) -> None:
    pages = pages_of(manifest(item("/sound"), item(key)))
    assert list(pages.objects) == ["pages/sound"]
    assert pages.left_out == {reason: (key,)}


def test_a_path_that_has_queries_has_no_object_at_all() -> None:
    listing = replace(JSON, route="/list", query=("page",))
    imported = replace(JSON, route="(imported)")
    pages = pages_of(
        manifest(
            item("/list", policy=listing),
            item("/list?page=2", policy=listing),
            item("/other?page=2", policy=listing),
            item("/other", policy=imported),
            item("/alone", policy=listing),
            item("/a"),
        )
    )
    assert list(pages.objects) == ["pages/a"]
    assert pages.left_out == {copy_plan.QUERY: ("/list", "/list?page=2", "/other?page=2", "/other", "/alone")}


@pytest.mark.parametrize("order", [("/docs/", "/docs/index.html"), ("/docs/index.html", "/docs/")])
def test_of_two_pages_with_one_key_the_one_of_that_name_has_it(order: tuple[str, str]) -> None:
    bodies = {"/docs/": b"folder", "/docs/index.html": b"file"}
    pages = pages_of(manifest(*(item(key, bodies[key]) for key in order)))
    assert pages.objects["pages/docs/index.html"].sha256 == hashlib.sha256(b"file").digest()
    assert pages.left_out == {copy_plan.TAKEN: ("/docs/",)}
    assert pages_of(manifest(item("/docs/"), item("/docs/index.html"))).left_out == {}


def test_fields_are_those_of_the_page_and_the_others_are_named() -> None:
    html = Policy(
        "/{page}",
        "text/html; charset=utf-8",
        "public, max-age=5",
        "max-age=300",
        60,
        headers=(("Content-Language", "de"), ("X-Frame-Options", "DENY")),
    )
    site = (("content-language", "en"), ("Content-Disposition", "inline"), ("Referrer-Policy", "no-referrer"))
    pages = pages_of(manifest(item("/a", policy=html), headers=site))
    assert dict(pages.objects["pages/a"].fields) == {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "public, max-age=5",
        "Content-Language": "de",
        "Content-Disposition": "inline",
    }
    assert pages.fields == ("referrer-policy", "x-frame-options")
    assert pages.objects["pages/a"].sha256 == hashlib.sha256(b"[]").digest(), "the identity coding"


def test_a_page_whose_fields_cannot_be_kept_is_left_out() -> None:
    policy = replace(JSON, cache_control='x="é"')
    assert pages_of(manifest(item("/a", policy=policy))).left_out == {copy_plan.NOT_ASCII: ("/a",)}


def site_of(pages: dict[str, int]) -> SitePages:
    return SitePages({key: PageObject(bytes([value]), ()) for key, value in pages.items()}, {}, ())


def test_what_has_not_changed_is_not_put() -> None:
    now, before = site_of({"same": 1, "changed": 2, "new": 1}), site_of({"same": 1, "changed": 1, "gone": 1})
    changes = plan(now, [before])
    assert (sorted(changes.put), changes.remove) == (["changed", "new"], ("gone",))
    assert plan(now, [now]).put == {}


def test_a_field_that_has_changed_is_a_change() -> None:
    before = manifest(item("/a"))
    now = manifest(item("/a", policy=replace(JSON, cache_control="public, max-age=5")))
    assert list(plan(pages_of(now), [pages_of(before)]).put) == ["pages/a"]


def test_of_a_copy_that_cannot_be_known_everything_is_put_and_nothing_removed() -> None:
    now = site_of({"a": 1, "b": 1})
    assert plan(now, [None]) == copy_plan.CopyPlan(dict(now.objects), ())
    assert plan(now, [None, site_of({"a": 1, "c": 1})]).remove == ("c",)


SITES = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 2))


@given(SITES, st.lists(SITES, min_size=1, max_size=3), st.data())
def test_any_mixture_becomes_the_generation(
    now: dict[str, int], before: list[dict[str, int]], data: st.DataObject
) -> None:
    mixture = {}
    for key in "abcde":
        value = data.draw(st.sampled_from([site.get(key) for site in before]))
        if value is not None:
            mixture[key] = PageObject(bytes([value]), ())
    changes = plan(site_of(now), map(site_of, before))
    for key in changes.remove:
        mixture.pop(key, None)
    assert {**mixture, **changes.put} == site_of(now).objects
    agreed = {key for key in now if all(site.get(key) == now[key] for site in before)}
    assert not agreed & changes.put.keys()


@given(st.lists(st.binary(max_size=12), max_size=4))
def test_two_paths_never_have_one_key_but_for_index_documents(segments: list[bytes]) -> None:
    raw = b"/" + b"/".join(re.sub(rb"[^!-~]|[/\\]", lambda m: b"%%%02X" % m[0][0], each) for each in segments)
    path = canonical_path(raw)
    if path is None:
        return
    key, problem = object_key(path.decode())
    if problem is None:
        asked = unquote(path[1:].decode())
        assert key in ("pages/" + asked, "pages/" + asked + "index.html")
        assert key.removeprefix("pages/").split("/").count("") == 0
