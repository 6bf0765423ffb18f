"""Old generations go; the current, the pinned, the last few and those that are read stay; nothing is guessed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hotpath.errors import Corrupt, DeclarationError
from hotpath.pages.policy import Policy
from hotpath.store.prune import Pruned, prune
from hotpath.store.publish import staging
from hotpath.store.store import Store
from tests.store.faults.sites import edit

POLICY = Policy("/a", "application/json", "public", None, 3600)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "hot", keep=10)
    for number in range(6):
        with staging(store) as stage:
            stage.add("/a", "a.json", b"[%d]" % number, POLICY)
            stage.publish()
    return store


def test_the_last_few_stay_and_a_second_run_changes_nothing(store: Store) -> None:
    assert prune(store, keep=2) == Pruned((1, 2, 3, 4), ())
    assert store.sequences() == [5, 6]
    assert prune(store, keep=2) == Pruned((), ())
    assert not [path for path in store.root.iterdir() if path.name.startswith(".")]


def test_without_a_number_the_stores_own_counts(store: Store) -> None:
    assert prune(store) == Pruned((), ())


def test_the_pinned_and_the_current_stay(store: Store) -> None:
    store.pin(2)
    assert prune(store, keep=1).removed == (1, 3, 4, 5)
    assert store.sequences() == [2, 6]


def test_bad_ones_do_not_count_among_the_last_few(store: Store) -> None:
    store.rollback(to=3)
    assert prune(store, keep=2).removed == (1, 4, 5, 6)
    assert store.sequences() == [2, 3]


def test_what_a_reader_holds_stays_until_it_lets_go(store: Store) -> None:
    store.pin(1)
    held = store.choose()
    store.unpin()
    assert prune(store, keep=1) == Pruned((2, 3, 4, 5), (1,))
    os.close(held.descriptor)
    assert prune(store, keep=1) == Pruned((1,), ())


@pytest.mark.parametrize("pointer", ["CURRENT", "PIN", "BAD"])
def test_a_pointer_that_cannot_be_read_means_that_nothing_is_removed(store: Store, pointer: str) -> None:
    edit(store.root / pointer, b"garbage\n")
    with pytest.raises(Corrupt, match=pointer):
        prune(store, keep=1)
    assert store.sequences() == [1, 2, 3, 4, 5, 6]


def test_keeping_none_is_refused(store: Store) -> None:
    with pytest.raises(DeclarationError, match="keep=1 or more"):
        prune(store, keep=0)
