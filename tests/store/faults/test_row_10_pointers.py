"""Row 10: pointers and manifests that are missing or wrong: the newest valid one serves, and it is told everywhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from hotpath.cli.commands import main
from hotpath.errors import StoreError
from hotpath.metrics.site import HotpathCollector
from hotpath.ops.status import status
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.store.pointer import Pointer
from hotpath.store.prune import prune
from hotpath.store.store import Store
from tests.store.faults.sites import APP_STATUS, edit, get, publish, refusal, rewrite_manifest, site_of

LATEST = 4


def body(number: int) -> bytes:
    return b'{"n":%d}' % number


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four generations, the last of them current."""
    store = Store(tmp_path / "hot", keep=9)
    for number in range(1, LATEST + 1):
        publish(store, a=body(number), b=body(number))
    return store


def newer_format(store: Store) -> None:
    rewrite_manifest(store, LATEST, lambda text: text.replace(b'"format":1', b'"format":2'))


def lose_two(store: Store) -> None:
    edit(store.manifest_path(LATEST), b"")
    shutil.rmtree(store.generation_path(LATEST - 1))


def instead(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


@dataclass(frozen=True)
class Damage:
    """What is done to a store, which generation then is served, and what the reason has to say."""

    name: str
    do: Callable[[Store], object]
    serves: int
    told: str

    @property
    def is_seen(self) -> bool:
        """Whether a running process sees it: at a pointer, not at files whose bytes it has verified and in memory."""
        return "CURRENT" in self.name or "PIN" in self.name or "format" in self.name


DAMAGES = [
    Damage("CURRENT is missing", lambda s: s.current_path.unlink(), LATEST, "CURRENT is missing"),
    Damage("CURRENT is empty", lambda s: edit(s.current_path, b""), LATEST, "expected '<number> sha256:"),
    Damage("CURRENT is garbage", lambda s: edit(s.current_path, os.urandom(80)), LATEST, "expected '<number>"),
    Damage("CURRENT is huge", lambda s: edit(s.current_path, b"9" * 10**6), LATEST, "expected '<number>"),
    Damage(
        "CURRENT is of a newer form",
        lambda s: edit(s.current_path, b"v2 " + s.current_path.read_bytes()),
        LATEST,
        "expected '<number>",
    ),
    Damage("CURRENT is dangling", lambda s: edit(s.current_path, Pointer(9, bytes(32)).encode()), LATEST, "/9/"),
    Damage(
        "CURRENT has another digest",
        lambda s: edit(s.current_path, Pointer(LATEST, bytes(32)).encode()),
        LATEST - 1,
        "not the one that the pointer names",
    ),
    Damage("CURRENT is a directory", lambda s: instead(s.current_path, Path.mkdir), LATEST, "CURRENT"),
    Damage("PIN is empty", lambda s: edit(s.pin_path, b""), LATEST, "PIN"),
    Damage("PIN is dangling", lambda s: edit(s.pin_path, Pointer(9, bytes(32)).encode()), LATEST, "/9/"),
    Damage("the manifest is missing", lambda s: s.manifest_path(LATEST).unlink(), LATEST - 1, "json: No such file"),
    Damage("the manifest is empty", lambda s: edit(s.manifest_path(LATEST), b""), LATEST - 1, "manifest"),
    Damage("the manifest is of a newer format", newer_format, LATEST - 1, "upgrade hotpath"),
    Damage(
        "the generation is gone",
        lambda s: shutil.rmtree(s.generation_path(LATEST)),
        LATEST - 1,
        "manifest.json: No such file",
    ),
    Damage(
        "the last two are lost",
        lose_two,
        LATEST - 2,
        "manifest",
    ),
]
EVERY_DAMAGE = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name.replace(" ", "_"))


def metrics(hot: Hotpath) -> dict[str, float]:
    return {sample.name: sample.value for metric in HotpathCollector(hot).collect() for sample in metric.samples}


def answers(store: Store) -> dict[str, tuple[int, bytes, str | None]]:
    """What a process that starts now answers."""
    hot = site_of(store)
    found = {}
    for target in ("/a", "/b"):
        answer = get(hot, target)
        found[target] = (answer.status, answer.body, answer.header("x-hotpath-generation"))
    reader_of(hot).close()
    return found


def all_of(number: int) -> dict[str, tuple[int, bytes, str | None]]:
    return {target: (200, body(number), str(number)) for target in ("/a", "/b")}


@EVERY_DAMAGE
def test_the_newest_valid_one_is_served_and_degraded_is_told_everywhere(store: Store, damage: Damage) -> None:
    running = site_of(store)
    damage.do(store)
    assert answers(store) == all_of(damage.serves)
    fresh = site_of(store)
    reader_of(running).refresh()
    if not damage.is_seen:
        assert (get(running, "/a").body, reader_of(running).loader.degraded) == (body(LATEST), None)
        reader_of(running).close()
    for hot in (fresh, running) if damage.is_seen else (fresh,):
        answer = get(hot, "/a")
        assert answer.status == 200
        assert "detail=degraded" in (answer.header("cache-status") or "")
        assert (metrics(hot)["hotpath_degraded"], metrics(hot)["hotpath_generation"]) == (1, damage.serves)
        assert damage.told in (reader_of(hot).loader.degraded or "")
        reader_of(hot).close()
    told = CliRunner().invoke(main, ["status", str(store.root)])
    assert told.exit_code == 0, told.output
    assert f"serving generation {damage.serves}\nDEGRADED: " in told.output
    assert damage.told in told.output
    assert CliRunner().invoke(main, ["verify", str(store.root)]).exit_code == 1


@EVERY_DAMAGE
def test_pruning_refuses_to_guess(store: Store, damage: Damage) -> None:
    """It refuses, or what it removes is neither served nor the next to fall back to."""
    damage.do(store)
    before = answers(store)
    sequences = store.sequences()
    error = refusal(lambda: prune(store, keep=1))
    if error is not None:
        assert error.path.is_relative_to(store.root)
        assert store.sequences() == sequences
    assert answers(store) == before


@EVERY_DAMAGE
def test_the_next_publish_mends_it_with_a_number_never_used(store: Store, damage: Damage) -> None:
    damage.do(store)
    if damage.name == "CURRENT is a directory":
        with pytest.raises(StoreError, match=r"CURRENT: making .* current failed.* it is not known which one is"):
            publish(store, a=body(9), b=body(9))
        store.current_path.rmdir()
    before = store.sequences()
    published = publish(store, a=body(9), b=body(9))
    assert published.generation > max(before)
    if damage.name.startswith("PIN"):
        assert get(site_of(store), "/a").body == body(9), "no valid pin holds it back"
        store.pin_path.unlink()
    hot = site_of(store)
    assert (get(hot, "/a").body, reader_of(hot).loader.degraded, metrics(hot)["hotpath_degraded"]) == (body(9), None, 0)


def test_an_item_of_a_newer_version_costs_no_other_page(store: Store) -> None:
    """In a manifest whose format has not changed, with a content coding that this version does not know."""
    coding = b'"b.json","codings":{"dcz":{"bytes":9,"sha256":"' + b"0" * 64 + b'"}}'
    rewrite_manifest(store, LATEST, lambda text: text.replace(b'"b.json"', coding))
    assert answers(store) == {"/a": (200, body(LATEST), "4"), "/b": (200, body(LATEST - 1), "3")}


def test_half_of_the_files_of_a_generation_are_gone(store: Store) -> None:
    """Each page whose file is gone is answered by the generation before, which its header names; the others stay."""
    (store.files_path(LATEST) / "a.json").unlink()
    expected = {"/a": (200, body(LATEST - 1), "3"), "/b": (200, body(LATEST), "4")}
    assert answers(store) == expected
    hot = site_of(store)
    assert metrics(hot)["hotpath_corrupt_items_total"] == 1
    told = CliRunner().invoke(main, ["verify", str(store.root)])
    assert (told.exit_code, "a.json: is missing" in told.output) == (1, True)


def test_pruning_keeps_what_a_half_deleted_generation_falls_back_to(store: Store) -> None:
    (store.files_path(LATEST) / "a.json").unlink()
    before = answers(store)
    with pytest.raises(StoreError, match=r"a\.json"):
        prune(store, keep=1)
    assert store.sequences() == [1, 2, 3, 4]
    assert answers(store) == before


def test_while_a_generation_is_taken_away_file_by_file(store: Store) -> None:
    """rm -r of the current one by hand: at every step a process that starts finds whole pages."""
    for path in sorted(store.generation_path(LATEST).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
        for target, (code, text, generation) in answers(store).items():
            assert (code, text) in ((200, body(LATEST)), (200, body(LATEST - 1))), (target, path)
            assert text == body(int(generation or 0))
    assert answers(store) == all_of(LATEST - 1)


def test_a_store_that_is_gone_keeps_being_served_by_who_has_it(store: Store) -> None:
    running = site_of(store)
    shutil.rmtree(store.root)
    reader_of(running).refresh()
    answer = get(running, "/a")
    assert (answer.status, answer.body) == (200, body(LATEST))
    assert metrics(running)["hotpath_degraded"] == 1
    assert get(site_of(store), "/a").status == APP_STATUS
    assert status(store).serving is None
