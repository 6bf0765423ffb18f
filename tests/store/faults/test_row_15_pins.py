"""Row 15: rollback during publish; pin then publish; unpin: the pin wins; bad generations never come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotpath.serving import reader_of
from hotpath.store.store import Store
from tests.store.faults.sites import await_true, command, edit, get, publish, run, site_of, write_module


@pytest.mark.slow
def test_a_rollback_during_a_publish_is_busy_and_then_works(tmp_path: Path) -> None:
    write_module(tmp_path, tmp_path / "hot")
    for _ in range(2):
        assert run(tmp_path, "build", "nightly:hot")[0] == 0
    (tmp_path / "running").unlink()
    (tmp_path / "hold").touch()
    build = command(tmp_path, "build", "nightly:hot")
    await_true((tmp_path / "running").exists)
    code, told = run(tmp_path, "rollback", "nightly:hot")
    assert (code, f"process {build.pid}" in told) == (75, True)
    store = Store(tmp_path / "hot")
    assert store.chosen_sequence() == 2, "nothing was changed"
    (tmp_path / "hold").unlink()
    assert build.wait(20) == 0
    build.communicate()
    assert run(tmp_path, "rollback", "nightly:hot")[0] == 0
    assert store.chosen_sequence() == 2
    assert list(store.bad()) == [3]


def test_the_pin_wins_until_unpin(tmp_path: Path) -> None:
    store = Store(tmp_path / "hot", keep=1)
    publish(store, a=b"[1]")
    store.pin(1)
    hot = site_of(store)
    for number in (2, 3, 4):
        publish(store, a=b"[%d]" % number)
        reader_of(hot).refresh()
        answer = get(hot, "/a")
        assert answer.body == b"[1]"
        assert "detail=pinned" in (answer.header("cache-status") or "")
    store.unpin()
    reader_of(hot).refresh()
    answer = get(hot, "/a")
    assert (answer.body, "pinned" in (answer.header("cache-status") or "")) == (b"[4]", False)


def test_what_was_rolled_back_never_comes_back(tmp_path: Path) -> None:
    """Neither by unpin, nor by a damaged pointer, nor when everything newer is gone."""
    store = Store(tmp_path / "hot")
    for number in (1, 2, 3):
        publish(store, a=b"[%d]" % number)
    store.rollback(reason="wrong prices")
    assert store.chosen_sequence() == 2
    store.unpin()
    assert store.chosen_sequence() == 2
    edit(store.current_path, b"garbage")
    assert store.chosen_sequence() == 2
    edit(store.current_path, store.pointer_to(3).encode())
    assert store.chosen_sequence() == 2
    assert publish(store, a=b"[4]").generation == 4
    store.manifest_path(4).unlink()
    assert store.chosen_sequence() == 2
