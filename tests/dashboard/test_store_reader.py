"""A store as the page shows it: whole, half, broken and full of hostile text."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotpath.dashboard.facts import StatusFacts
from hotpath.dashboard.redaction import Redaction
from hotpath.dashboard.sections import sections
from hotpath.dashboard.store_reader import StoreReader
from hotpath.store.store import Store
from tests.dashboard.stores import Clock, broken_store, full_store, hostile_store

NOW = 1_795_880_000.0


def read(store: Store, **environ: str) -> StoreReader:
    return StoreReader(store, Redaction(environ))


def test_a_store_that_is_not_there_is_empty_and_not_made(tmp_path: Path) -> None:
    facts = read(Store(tmp_path / "hot")).read()
    assert (facts.serving, facts.hot, facts.notes) == (None, 0, ())
    assert not (tmp_path / "hot").exists()


def test_everything_of_a_full_store_is_there(tmp_path: Path) -> None:
    store = full_store(tmp_path / "hot", NOW, pages=20, nights=8)
    facts = read(Store(store.root, clock=Clock(NOW))).read()
    assert (facts.hot, facts.declared, facts.serving) == (20, 20, store.chosen_sequence())
    assert [run.outcome for run in facts.runs] == ["published"] * 8 + ["quarantined"]
    assert facts.held_back[0].can_be_approved
    assert {event.kind for event in facts.events} >= {"publish", "quarantine", "alert failed", "purge", "recovery 1"}
    assert [alert.kind for alert in facts.alerts] == ["memory.usage_80"]
    assert (facts.open_recovery, facts.notes, facts.stale) == (None, (), 0)


def test_a_second_reading_sees_what_has_changed(tmp_path: Path) -> None:
    store = full_store(tmp_path / "hot", NOW, pages=5, nights=4, held=False)
    reader = read(store)
    before = reader.read()
    store.rollback(reason="wrong prices; password=hunter2")
    after = reader.read()
    assert (before.pinned, after.pinned) == (None, store.chosen_sequence())
    assert after.generations[-1].bad == "wrong prices; password=***"
    assert after.events[0].kind == "rollback"


def test_pages_go_past_their_lifetime_while_somebody_looks(tmp_path: Path) -> None:
    store = full_store(tmp_path / "hot", NOW, pages=5, nights=2, held=False)
    clock = Clock(NOW)
    reader = read(Store(store.root, clock=clock))
    assert reader.read().stale == 0
    clock.now += 30 * 3600
    assert reader.read().stale == 5


@pytest.mark.parametrize("make", [broken_store, hostile_store])
def test_whatever_is_in_it_the_page_is_made(tmp_path: Path, make: object) -> None:
    store = make(tmp_path / "hot", NOW)  # type: ignore[operator]
    facts = read(store).read()
    made = sections(StatusFacts(NOW, "app:hot", facts))
    assert all("<script" not in inside for inside in made.values())
    assert (make is broken_store) == ("What could not be read" in made["notes"])


@pytest.mark.parametrize(
    "name",
    ["runs", "generations", "quarantine", "history.jsonl", "alerts.jsonl", "recover.jsonl", "CURRENT", "PIN", "BAD"],
)
def test_a_part_that_is_of_another_kind_costs_only_itself(tmp_path: Path, name: str) -> None:
    store = full_store(tmp_path / "hot", NOW, pages=3, nights=2, held=False)
    path = store.root / name
    if path.exists():
        path.rename(tmp_path / "was")
    if name in ("runs", "generations", "quarantine"):
        path.write_text("a file", "utf-8")
    else:
        path.mkdir()
    facts = read(store).read()
    assert facts.notes or facts.degraded or not facts.runs
    assert sections(StatusFacts(NOW, "app:hot", facts))["headline"]


def test_secrets_of_the_environment_are_in_no_fact(tmp_path: Path) -> None:
    store = hostile_store(tmp_path / "hot", NOW)
    shown = str(read(store, HOTPATH_ALERT_WEBHOOK="alert(1)").read())
    assert "alert(1)" not in shown
    assert "alert(2)" in shown


def test_a_second_reading_is_cheap(tmp_path: Path) -> None:
    store = full_store(tmp_path / "hot", NOW, pages=10, nights=3, held=False)
    opened: list[Path] = []
    reader = read(store)
    reader.read()
    read_file = store.disk.read
    store.disk.read = lambda path: opened.append(path) or read_file(path)  # type: ignore[func-returns-value,method-assign]
    reader.read()
    assert not [path for path in opened if path.parent.name == "runs"]
