"""A repair that ends at any operation has changed nothing of what is served, and the next one finishes it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from hotpath.store.pointer import Pointer
from hotpath.store.repair import repair
from hotpath.store.store import Store
from hotpath.store.verify import verify
from tests.store.crash.operations import Ended, EndedDisk, NumberedDisk
from tests.store.crash.scenarios import content_of, litter, open_store, publish, reading
from tests.store.faults.sites import edit


def lose_a_file(store: Store) -> None:
    """One that the generation before has too, under the same inode until now."""
    path = store.files_path(3) / "constant.json"
    path.unlink()
    edit(path, b"[")


def lose_the_marks(store: Store) -> None:
    store.rollback(reason="half of the rows")
    edit(store.bad_path, b"{")


DAMAGES: dict[str, Callable[[Store], object]] = {
    "the pointer is garbage": lambda store: edit(store.current_path, b"?"),
    "the pin leads nowhere": lambda store: edit(store.pin_path, Pointer(9, bytes(32)).encode()),
    "a file is not what was published": lose_a_file,
    "a manifest is cut": lambda store: edit(store.manifest_path(3), store.manifest_path(3).read_bytes()[:-9]),
    "the marks are garbage": lose_the_marks,
    "the link is gone": lambda store: (store.root / "current").unlink(),
}


def bodies(store: Store) -> dict[str, bytes]:
    """What a process that starts now answers, from whichever generation."""
    found = {}
    with reading(store) as reader:
        for key in reader.loader.keys:
            page = reader.load_page(key)
            assert page is not None, key
            found[key.decode("ascii")] = page.bodies["identity"]
    return found


# One with every run of the tests.
QUICK = "a file is not what was published"


@pytest.mark.parametrize(
    "damage", [one if one == QUICK else pytest.param(one, marks=pytest.mark.slow) for one in DAMAGES]
)
def test_a_repair_that_ends_at_any_operation(damage: str, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    store = open_store(prepared / "hot", 9, NumberedDisk(base=prepared))
    for content in (1, 2, 3):
        publish(store, content)
    DAMAGES[damage](store)
    wanted = bodies(store)
    assert content_of(wanted)
    assert not verify(store).is_sound
    for number in itertools.count():
        base = tmp_path / "copy"
        shutil.rmtree(base, ignore_errors=True)
        shutil.copytree(prepared, base, symlinks=True)
        killed = EndedDisk(base=base, number=number)
        with suppress(Ended):
            repair(open_store(base / "hot", 9, killed))
        if len(killed.trace) < number:
            break  # it was done before
        again = open_store(base / "hot", 9, NumberedDisk(base=base))
        assert bodies(again) == wanted, f"ended before {number}"
        repair(again)
        assert (verify(again).is_sound, litter(again), bodies(again)) == (True, [], wanted), f"ended before {number}"
        assert repair(again).repaired == [], "a second run changes nothing"
    assert number > 4
