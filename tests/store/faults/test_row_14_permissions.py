"""Row 14: read-only disk, wrong owner, umask 077, another web user: path and fix named; it reads, and cannot write."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotpath.batch.run import build
from hotpath.errors import StoreError
from hotpath.ops.status import status
from hotpath.site import Hotpath
from hotpath.store.prune import prune
from hotpath.store.repair import repair
from hotpath.store.store import Store
from hotpath.store.verify import verify
from tests.store.faults.mounts import needs_root, tmpfs
from tests.store.faults.sites import Calls, get, litter, publish, run, site_of, write_module

REPOSITORY = Path(__file__).resolve().parents[3]
NOBODY = 65534


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that every user can look into, unlike those of pytest."""
    directory = Path(tempfile.mkdtemp(prefix="hotpath-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def as_user(uid: int, root: Path, *what: str) -> dict[str, Any]:
    """What a process of this user can do with the store."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.store.faults.web_user", str(uid), str(root), *what],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
    told: dict[str, Any] = json.loads(found.stdout)
    assert told["uid"] == uid
    return told


WRITERS: dict[str, Callable[[Store], object]] = {
    "publish": lambda store: publish(store, n=b"[3]"),
    "rollback": lambda store: store.rollback(),
    "pin": lambda store: store.pin(1),
    "unpin": lambda store: store.unpin(),
    "prune": lambda store: prune(store, 1),
    "repair": repair,
}


def publish_two(root: Path) -> Store:
    store = Store(root)
    publish(store, n=b"[1]")
    publish(store, n=b"[2]")
    return store


def still_serves(store: Store) -> None:
    """A process that starts now answers from the second generation, and the store is as it was."""
    assert get(site_of(store), "/n").body == b"[2]"
    assert (status(store).serving, status(store).degraded, verify(store).is_sound) == (2, None, True)
    assert (store.sequences(), litter(store)) == ([1, 2], [])


@needs_root
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_system_that_became_read_only(tmp_path: Path, writer: str) -> None:
    with tmpfs(tmp_path / "disk", "size=8m") as disk:
        store = publish_two(disk / "hot")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StoreError, match="Read-only file system; the file system is mounted read-only") as caught:
            WRITERS[writer](store)
        assert caught.value.path.is_relative_to(store.root)
        still_serves(store)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert publish(store, n=b"[4]").generation == 3


@needs_root
def test_a_new_store_on_a_read_only_file_system(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=8m,ro") as disk:
        with pytest.raises(StoreError, match="mounted read-only") as caught:
            publish(Store(disk / "var" / "hot"), n=b"[1]")
        assert caught.value.path.is_relative_to(disk)


@needs_root
@pytest.mark.parametrize("name", ["generations", "quarantine"])
def test_a_store_on_two_file_systems_is_told_before_any_function_is_run(tmp_path: Path, name: str) -> None:
    root = publish_two(tmp_path / "hot").root
    hot = Hotpath(root)
    ran = Calls()

    @hot.route("/n")
    def page() -> list[int]:
        ran.add()
        return [3]

    if name == "generations":
        (root / name).rename(tmp_path / "aside")
    with tmpfs(root / name, "size=8m"):
        with pytest.raises(StoreError, match=rf"{name}: this is on another file system than .*mount at the root"):
            build(hot)
        assert len(ran) == 0


@needs_root
def test_no_function_is_run_where_nothing_could_be_published(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=8m") as disk:
        hot = Hotpath(publish_two(disk / "hot").root)
        ran = Calls()

        @hot.route("/n")
        def page() -> list[int]:
            ran.add()
            return [1]

        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StoreError):
            build(hot)
        assert len(ran) == 0


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("umask", ["077", *(umask for umask in ("022", "000"))])
def test_the_web_user_reads_everything_and_can_write_nothing(shared: Path, umask: str) -> None:
    """A batch as root with this umask, in the shell that cron would start; then a process of another user."""
    write_module(shared, shared / "var" / "hot")
    batch = f"umask {umask} && exec {sys.executable} -m hotpath build nightly:hot"
    for _ in range(2):
        subprocess.run(["/bin/sh", "-c", batch], cwd=shared, capture_output=True, check=True, timeout=60)
    root = shared / "var" / "hot"
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in root.rglob("*") if not path.is_symlink()}
    assert not {str(path): oct(mode) for path, mode in modes.items() if mode & 0o022}, "others can write"
    told = as_user(NOBODY, root, "answers", "unreadable", "written", "built")
    assert (told["answers"]["status"], told["answers"]["degraded"]) == (200, None)
    assert told["answers"]["body"].encode() == (root / "current" / "n.json").read_bytes()
    # Who could open a lock could hold it, and keep every batch waiting; reports and journals hold what items print.
    runs = sorted(map(str, (root / "runs").iterdir()))
    private = [str(root / "alerts.jsonl"), str(root / "history.jsonl"), str(root / "lock"), *runs]
    assert len(runs) == 2
    assert (sorted(told["unreadable"]), told["written"]) == ([path for path in private if Path(path).exists()], [])
    kept = {path.name: mode for path, mode in modes.items() if path.parent.name == "runs" or path.name == "lock"}
    assert set(kept.values()) == {0o640, 0o600}
    assert {mode for path, mode in modes.items() if path.is_file() and "generations" in path.parts} == {0o444}
    assert told["built"].startswith(f"{runs[-1]}: Permission denied; run as the user who owns the store")
    assert f"chown -R {NOBODY} {root}" in told["built"]
    assert told["functions run"] == 0
    assert status(Store(root)).serving == 2


@pytest.mark.slow
@needs_root
def test_not_even_its_owner_edits_a_published_file_by_accident(shared: Path) -> None:
    """An unchanged file of all generations is one file with many names: one edit would damage them all."""
    root = shared / "hot"
    root.mkdir()
    os.chown(root, NOBODY, NOBODY)
    for number in (1, 2):
        told = as_user(NOBODY, root, "built", "edited")
        assert (told["built"], told["edited"]) == (f"published {number}", [])
    assert (root / "generations/1/files/n.json").stat().st_nlink == 2
    assert (root / "generations/1/manifest.json").stat().st_uid == NOBODY


@pytest.mark.slow
@needs_root
def test_status_tells_a_user_who_may_not_read_the_reports(shared: Path) -> None:
    root = shared / "hot"
    write_module(shared, root)
    assert run(shared, "build", "nightly:hot")[0] == 0
    (report,) = (root / "runs").iterdir()
    lines = as_user(NOBODY, root, "seen")["seen"]
    assert "serving generation 1" in lines
    assert any(line.startswith(f"last run: {report}: Permission denied") for line in lines)
    assert not any("DEGRADED" in line for line in lines)


@pytest.mark.slow
@needs_root
def test_the_fix_that_is_named_works(shared: Path) -> None:
    root = publish_two(shared / "hot").root
    told = as_user(NOBODY, root, "built")["built"]
    fix = told.partition("give it to this one: ")[2]
    assert fix.startswith("chown -R ")
    subprocess.run(fix.split(), check=True)
    after = as_user(NOBODY, root, "built")
    assert (after["built"], after["functions run"] > 0) == ("published 3", True)
    assert verify(Store(root)).is_sound


@pytest.mark.slow
@needs_root
def test_a_batch_run_once_as_root_leaves_a_store_its_owner_can_go_on_with_or_is_told(shared: Path) -> None:
    """Somebody tries the batch by hand with sudo; the next night it runs as its own user again."""
    root = shared / "hot"
    root.mkdir()
    os.chown(root, NOBODY, NOBODY)
    assert as_user(NOBODY, root, "built")["built"] == "published 1"
    publish(Store(root), n=b"[2]")
    told = as_user(NOBODY, root, "built", "answers")
    if told["built"] != "published 3":
        assert f"chown -R {NOBODY} {root}" in told["built"]
        assert told["answers"]["body"] == "[2]"
    assert told["answers"]["status"] == 200
    assert verify(Store(root)).is_sound


@needs_root
def test_a_store_that_the_web_user_cannot_enter_is_named_and_the_app_answers(shared: Path) -> None:
    root = publish_two(shared / "hot").root
    root.chmod(0o700)
    told = as_user(NOBODY, root, "answers")["answers"]
    assert told["status"] == 418
    assert "Permission denied" in told["degraded"]
    assert str(root) in told["degraded"]


@pytest.fixture
def immutable(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """``chattr +i``, undone at the end; skips where there is none."""
    fixed: list[Path] = []

    def fix(path: Path) -> None:
        found = subprocess.run(["chattr", "+i", str(path)], capture_output=True, text=True, check=False)
        if found.returncode:
            pytest.skip(f"chattr +i does not work here: {found.stderr.strip()}")
        fixed.append(path)

    if shutil.which("chattr") is None:
        pytest.skip("needs chattr")
    yield fix
    for path in fixed:
        subprocess.run(["chattr", "-i", str(path)], check=True)


@needs_root
@pytest.mark.parametrize("name", [".", "generations", "CURRENT", "lock"])
def test_what_not_even_root_can_change(tmp_path: Path, immutable: Callable[[Path], None], name: str) -> None:
    store = publish_two(tmp_path / "hot")
    path = store.root / name
    immutable(path)
    with pytest.raises(StoreError, match=r"(Operation not permitted|Permission denied); .*lsattr") as caught:
        publish(store, n=b"[3]")
    assert caught.value.path.is_relative_to(store.root)
    assert path.name in str(caught.value)
    assert get(site_of(store), "/n").body == b"[2]"
    assert not list(store.root.glob(".stage-*"))
    subprocess.run(["chattr", "-i", str(path)], check=True)
    assert publish(store, n=b"[3]").generation == 3
    assert litter(store) == []


def test_a_store_where_a_file_stands_in_the_way(tmp_path: Path) -> None:
    write_module(tmp_path, tmp_path / "file" / "hot")
    (tmp_path / "file").write_text("x")
    code, told = run(tmp_path, "build", "nightly:hot")
    assert (code, f"{tmp_path / 'file'}" in told, "a part of this path is a file" in told) == (1, True, True)
