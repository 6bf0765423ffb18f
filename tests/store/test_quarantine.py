"""A candidate that fails validation is kept whole and never served; a person may release it, once and with a reason."""

from __future__ import annotations

import os
import time
from pathlib import Path

import orjson
import pytest

from hotpath.errors import Corrupt, Implausible, StoreError
from hotpath.pages.policy import Policy
from hotpath.store.manifest import Manifest
from hotpath.store.publish import Published, Validator, staging
from hotpath.store.quarantine import KEEP_QUARANTINED, approve, problems_of
from hotpath.store.store import Store
from tests.store.faults.sites import edit

POLICY = Policy("/a", "application/json", "public", None, 3600)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "hot")
    publish(store, b"[1]")
    return store


def publish(store: Store, body: bytes, validate: Validator | None = None, timeout_seconds: float = 20.0) -> Published:
    with staging(store) as stage:
        stage.add("/a", "a.json", body, POLICY)
        return stage.publish(validate, timeout_seconds=timeout_seconds)


def refuse(manifest: Manifest, previous: Manifest | None) -> list[str]:
    rows = "before" if previous is None else str(previous.sequence)
    return [f"generation {manifest.sequence} has half the rows of {rows}", "a second problem"]


def served(store: Store) -> int:
    return store.chosen_sequence()


def events(store: Store) -> list[tuple[str, int]]:
    lines = map(orjson.loads, store.history_path.read_bytes().splitlines())
    return [(line["event"], line["sequence"]) for line in lines]


def test_a_failed_candidate_is_kept_whole_with_its_report_and_not_served(store: Store) -> None:
    with pytest.raises(
        Implausible, match=r"generation 2 is not plausible[\s\S]*half the rows of 1[\s\S]*approve"
    ) as told:
        publish(store, b"[2]", refuse)
    assert told.value.sequence == 2
    assert served(store) == 1
    assert store.sequences() == [1]
    assert store.quarantined() == [2]
    assert problems_of(store, 2) == ["generation 2 has half the rows of 1", "a second problem"]
    assert (store.quarantine_path / "2" / "files" / "a.json").read_bytes() == b"[2]"
    assert events(store) == [("publish", 1), ("quarantine", 2)]
    assert publish(store, b"[3]").generation == 3, "its number is taken"


def test_a_validator_that_agrees_publishes(store: Store) -> None:
    assert publish(store, b"[2]", lambda manifest, previous: []).generation == 2
    assert served(store) == 2


def _raise(manifest: Manifest, previous: Manifest | None) -> list[str]:
    raise RuntimeError("the check itself is broken")


def _hang(manifest: Manifest, previous: Manifest | None) -> list[str]:
    while True:
        time.sleep(1)


def _eat(manifest: Manifest, previous: Manifest | None) -> list[str]:
    held = []
    while True:
        held.append(bytearray(1024 * 1024))


def _die(manifest: Manifest, previous: Manifest | None) -> list[str]:
    os._exit(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("validate", "told"),
    [
        (_raise, "the validator raised RuntimeError: the check itself is broken"),
        (_hang, r"the validator gave no answer within 0\.3 s"),
        (_eat, "the validator ran out of memory"),
        (_die, "the validator ended its process"),
    ],
)
def test_a_validator_that_gives_no_answer_counts_as_failed_within_its_timeout(
    store: Store, validate: Validator, told: str
) -> None:
    started = time.monotonic()
    with pytest.raises(Implausible, match=told):
        publish(store, b"[2]", validate, timeout_seconds=20.0 if validate is not _hang else 0.3)
    assert time.monotonic() - started < 20
    assert served(store) == 1
    assert store.verify_generation(1) == []
    assert store.quarantined() == [2]


def test_only_the_last_few_are_kept(store: Store) -> None:
    for number in range(KEEP_QUARANTINED + 2):
        with pytest.raises(Implausible):
            publish(store, b"[%d]" % (10 + number), refuse)
    last = KEEP_QUARANTINED + 3
    assert store.quarantined() == list(range(last - KEEP_QUARANTINED + 1, last + 1))
    assert not [path for path in store.root.iterdir() if path.name.startswith(".")]


def test_an_approved_one_is_served_and_history_says_why(store: Store) -> None:
    with pytest.raises(Implausible):
        publish(store, b"[2]", refuse)
    assert approve(store, 2, "the exchange was closed") == []
    assert served(store) == 2
    assert store.quarantined() == []
    assert store.verify_generation(2) == []
    last = orjson.loads(store.history_path.read_bytes().splitlines()[-1])
    assert (last["event"], last["sequence"], last["accepted"]) == ("approve", 2, True)
    assert last["reason"] == "the exchange was closed"
    before = store.history_path.read_bytes()
    assert approve(store, 2, "again") == []
    assert store.history_path.read_bytes() == before, "a second run changes nothing"


def test_an_approval_that_was_killed_half_way_is_finished_by_the_next(store: Store) -> None:
    with pytest.raises(Implausible):
        publish(store, b"[2]", refuse)
    (store.quarantine_path / "2").rename(store.generation_path(2))
    assert served(store) == 1
    approve(store, 2, "right after all")
    assert served(store) == 2


def test_older_data_do_not_come_back(store: Store) -> None:
    with pytest.raises(Implausible):
        publish(store, b"[2]", refuse)
    publish(store, b"[3]")
    with pytest.raises(StoreError, match=r"generation 3 was accepted after 2.*hotpath build"):
        approve(store, 2, "x")
    assert served(store) == 3


@pytest.mark.parametrize(
    ("sequence", "reason", "told"),
    [(9, "x", r"generation 9 is not in quarantine \(there: 2\)"), (1, "x", "not in quarantine"), (2, " ", "a reason")],
)
def test_what_cannot_be_approved_is_said(store: Store, sequence: int, reason: str, told: str) -> None:
    with pytest.raises(Implausible):
        publish(store, b"[2]", refuse)
    with pytest.raises(StoreError, match=told):
        approve(store, sequence, reason)
    assert served(store) == 1


def test_a_damaged_candidate_is_not_released(store: Store) -> None:
    with pytest.raises(Implausible):
        publish(store, b"[2]", refuse)
    edit(store.quarantine_path / "2" / "files" / "a.json", b"[9]")
    with pytest.raises(Corrupt, match="digest differs"):
        approve(store, 2, "x")
    assert served(store) == 1
    assert store.quarantined() == [2]


def test_a_pin_holds_against_an_approval(store: Store) -> None:
    store.pin(1)
    with pytest.raises(Implausible):
        publish(store, b"[2]", refuse)
    approve(store, 2, "x")
    assert served(store) == 1
    store.unpin()
    assert served(store) == 2
