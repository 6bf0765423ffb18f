"""The manifest file: JSON for everybody, and not one byte of it can change unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.errors import Corrupt
from hotpath.pages.hosts import Hosts
from hotpath.pages.keys import Ignored, Template, parse_path_template
from hotpath.pages.policy import Policy
from hotpath.pages.site_wide import DeclaredFiles, ReadOptions, SiteWide
from hotpath.store.manifest import Head, Item, Representation, decode, encode, encode_item

POLICY = Policy("/r/{x}", "application/json", "public", None, 3600, ("q",), True, (("X-A", "b"),))
OTHER = Policy("/robots.txt", "text/plain; charset=utf-8", "no-cache", "max-age=1", 60)
SITE = SiteWide(
    ReadOptions(
        0.5,
        1 << 20,
        False,
        True,
        Ignored.of(("ref", "src_*")),
        (("X-Site", "é"),),
        Hosts.parse(("example.org", "*.example.net")),
    ),
    (DeclaredFiles(parse_path_template("/i/{name}"), Template.parse("/data/{name}.json"), POLICY),),
    True,
)
HEAD = Head(7, 1_800_000_000, 6, ("gzip", "br"), (POLICY, OTHER), SITE)
ITEMS = [
    Item(
        "/r/a?q=1",
        POLICY,
        (Representation("identity", "r/a.json", 10, b"\1" * 32), Representation("gzip", "r/a.json.gz", 5, b"\2" * 32)),
        1_700_000_000,
        1_750_000_000,
        {"rows": 3},
    ),
    Item("/robots.txt", OTHER, (Representation("identity", "robots.txt", 4, b"\3" * 32),), 1_700_000_001),
]
DATA = b"".join(encode(HEAD, (encode_item(item, HEAD.policies) for item in ITEMS)))


def test_it_reads_back_as_written() -> None:
    manifest = decode(DATA, "manifest.json")
    assert manifest.head == HEAD
    assert list(manifest.items.values()) == ITEMS
    assert manifest.sequence == 7


def test_any_json_reader_can_read_it_and_an_item_is_a_line() -> None:
    document = json.loads(DATA)
    assert [item["key"] for item in document["items"]] == ["/r/a?q=1", "/robots.txt"]
    assert document["items"][0]["codings"]["gzip"]["bytes"] == 5
    assert document["routes"][document["items"][1]["route"]]["media_type"] == "text/plain; charset=utf-8"
    assert len(DATA.splitlines()) == 2 + len(ITEMS)


def test_every_flipped_bit_is_found() -> None:
    for index in range(len(DATA)):
        for bit in (0, 3, 7):
            flipped = bytearray(DATA)
            flipped[index] ^= 1 << bit
            with pytest.raises(Corrupt):
                decode(bytes(flipped), "manifest.json")


@given(st.integers(0, len(DATA) - 1))
def test_every_truncation_is_found(length: int) -> None:
    with pytest.raises(Corrupt):
        decode(DATA[:length], "manifest.json")


@given(st.binary(max_size=300))
def test_garbage_is_corrupt_and_nothing_else(garbage: bytes) -> None:
    with pytest.raises(Corrupt):
        decode(garbage, "manifest.json")


def with_head(line: bytes) -> bytes:
    """The file with another first line, and a digest that holds."""
    body = line + b"\n" + DATA.rpartition(b'],"sha256":"')[0].partition(b"\n")[2]
    return body + b'],"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def head_with(change: Callable[[dict[str, Any]], object]) -> bytes:
    facts = json.loads(DATA.partition(b"\n")[0] + b"]}")
    change(facts)
    return with_head(json.dumps(facts)[:-2].encode())


def test_a_newer_format_says_so() -> None:
    with pytest.raises(Corrupt, match=r"format 2.*upgrade"):
        decode(head_with(lambda facts: facts.update(format=2)), "manifest.json")


def test_what_holds_for_all_pages_is_an_object_that_any_reader_understands() -> None:
    site = json.loads(DATA)["site"]
    assert site["hosts"] == ["example.org", "*.example.net"]
    assert {"ref", "src_*", "utm_*"} <= {*site["ignore_query"]}
    assert site["headers"] == [["X-Site", "é"]]
    assert (site["redirect_slashes"], site["generation_header"], site["bypass"]) == (True, False, True)
    assert [(each["path"], each["files"]) for each in site["directories"]] == [("/i/{name}", "/data/{name}.json")]


def test_a_manifest_that_does_not_say_what_holds_for_all_pages_reads_as_before() -> None:
    manifest = decode(head_with(lambda facts: facts.pop("site")), "manifest.json")
    assert manifest.head == replace(HEAD, site=None)
    assert list(manifest.items.values()) == ITEMS


@pytest.mark.parametrize("name", [*SITE.facts()])
@pytest.mark.parametrize("value", [..., 7, "text", [7], {"a": 1}, [["a"]], [{}]], ids=repr)
def test_a_declaration_that_no_hotpath_writes_is_corrupt_or_read_and_nothing_else(name: str, value: object) -> None:
    def change(facts: dict[str, Any]) -> None:
        if value is ...:
            del facts["site"][name]
        else:
            facts["site"][name] = value

    data = head_with(change)
    try:
        site = decode(data, "manifest.json").head.site
    except Corrupt:
        return
    assert value is not ...
    assert SiteWide.of_facts(json.loads(json.dumps(site.facts() if site else None))) == site
