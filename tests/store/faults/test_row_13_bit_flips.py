"""Row 13: bit flip, truncation, swapped files, a valid-JSON edit in item, manifest or pointer: found, never served."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotpath.serving import reader_of
from hotpath.store.store import Store
from hotpath.store.verify import verify
from tests.store.faults.sites import APP_STATUS, edit, get, publish, site_of

GOOD = {"/a": {b'{"a":1}', b'{"a":2}'}, "/b": {b'{"b":1}', b'{"b":2}'}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "hot")
    for number in (1, 2):
        publish(store, a=b'{"a":%d}' % number, b=b'{"b":%d}' % number)
    return store


def damages(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Every single bit turned over, and every shorter length."""
    for place in range(len(data)):
        for bit in range(8):
            yield f"bit {bit} of byte {place}", data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]
    for length in range(len(data)):
        yield f"cut to {length}", data[:length]


def served(store: Store) -> dict[str, bytes]:
    """What a fresh process answers; a page that the app answered is left out."""
    hot = site_of(store)
    found = {}
    for target in GOOD:
        answer = get(hot, target)
        assert answer.status in (200, APP_STATUS)
        if answer.status == 200:
            found[target] = answer.body
    reader_of(hot).close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["CURRENT", "generations/2/manifest.json", "generations/2/files/a.json"],
)
def test_no_damage_of_one_file_goes_unseen_or_changes_a_byte_that_is_served(
    store: Store, name: str, record_property: Callable[[str, object], None]
) -> None:
    path = store.root / name
    data = path.read_bytes()
    count = 0
    for what, damaged in damages(data):
        edit(path, damaged)
        for target, body in served(store).items():
            assert body in GOOD[target], f"{what} of {name} gave {body!r}"
        if not _means_the_same(name, data, damaged):
            assert not verify(store).is_sound, f"{what} of {name} was not found"
        count += 1
    edit(path, data)
    record_property("cases", count)
    assert count == 9 * len(data)
    assert verify(store).is_sound
    assert served(store) == {"/a": b'{"a":2}', "/b": b'{"b":2}'}


def _means_the_same(name: str, data: bytes, damaged: bytes) -> bool:
    """A pointer without its line end still says the same."""
    return name == "CURRENT" and damaged == data.rstrip(b"\n")


def test_swapped_files(store: Store) -> None:
    one, other = (store.files_path(2) / name for name in ("a.json", "b.json"))
    first, second = one.read_bytes(), other.read_bytes()
    edit(one, second)
    edit(other, first)
    assert served(store) == {"/a": b'{"a":1}', "/b": b'{"b":1}'}
    assert {str(damage.key) for damage in verify(store).damages} == {"/a", "/b"}


def test_swapped_manifests(store: Store) -> None:
    edit(store.manifest_path(2), store.manifest_path(1).read_bytes())
    assert served(store) == {"/a": b'{"a":1}', "/b": b'{"b":1}'}
    assert not verify(store).is_sound


def test_a_valid_edit_with_its_own_digest_made_right_is_still_not_what_the_pointer_names(store: Store) -> None:
    path = store.manifest_path(2)
    data = path.read_bytes()
    body, mark, _ = data.rpartition(b'],"sha256":"')
    body = body.replace(
        hashlib.sha256(b'{"a":2}').hexdigest().encode(), hashlib.sha256(b'{"a":9}').hexdigest().encode()
    )
    edit(path, body + mark + hashlib.sha256(body).hexdigest().encode() + b'"}\n')
    edit(store.files_path(2) / "a.json", b'{"a":9}')
    assert served(store) == {"/a": b'{"a":1}', "/b": b'{"b":1}'}
    assert not verify(store).is_sound
