"""The manifest file: JSON for everybody, and not one byte of it can change unseen."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.errors import Corrupt
from hotpath.pages.policy import Policy
from hotpath.store.manifest import Head, Item, Representation, decode, encode, encode_item

POLICY = Policy("/r/{x}", "application/json", "public", None, 3600, ("q",), True, (("X-A", "b"),))
OTHER = Policy("/robots.txt", "text/plain; charset=utf-8", "no-cache", "max-age=1", 60)
HEAD = Head(7, 1_800_000_000, 6, ("gzip", "br"), (POLICY, OTHER))
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


def test_a_newer_format_says_so() -> None:
    import hashlib

    body = DATA.rpartition(b'],"sha256":"')[0].replace(b'"format":1', b'"format":2')
    newer = body + b'],"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'
    with pytest.raises(Corrupt, match=r"format 2.*upgrade"):
        decode(newer, "manifest.json")
