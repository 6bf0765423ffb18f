"""Disks that are full and stores that belong to somebody else, for real: a small tmpfs and another uid."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpath.batch import build
from hotpath.errors import BuildFailed, StoreError
from hotpath.site import Hotpath

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a tmpfs or to change the user")

NOBODY = 65534


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    found = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mounted)], capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {found.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


@needs_root
def test_a_disk_that_fills_up_changes_nothing_and_the_next_run_works(small_disk: Path) -> None:
    hot = Hotpath(small_disk / "hot", keep=1)
    size = {"bytes": 20_000}
    hot.route("/p/{i}", each={"i": list(range(10))})(lambda i: {"i": i, "x": os.urandom(size["bytes"] // 2).hex()})
    build(hot)
    pointer = (hot.store.root / "CURRENT").read_bytes()
    size["bytes"] = 400_000
    with pytest.raises(StoreError, match=r"No space left on device.*free some space"):
        build(hot)
    assert (hot.store.root / "CURRENT").read_bytes() == pointer
    assert hot.store.verify_generation(1) == []
    assert not [path.name for path in hot.store.root.iterdir() if path.name.startswith(".")], "the stage is gone"
    size["bytes"] = 10_000
    assert build(hot).published.sequence == 2


@needs_root
def test_too_little_room_is_told_before_a_function_is_run(small_disk: Path) -> None:
    hot = Hotpath(small_disk / "hot")
    ran = []

    def page() -> dict[str, int]:
        ran.append(1)
        return {"n": len(ran)}

    hot.route("/a")(page)
    build(hot)
    (small_disk / "filler").write_bytes(b"\0" * 3_500_000)
    with pytest.raises(StoreError, match=r"bytes are free, a new generation needs"):
        build(hot)
    assert len(ran) == 1


@needs_root
def test_a_store_of_another_user_names_path_and_fix(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot")
    hot.route("/a")(lambda: [1])
    build(hot)
    for directory in [tmp_path, *tmp_path.parents]:
        if directory.stat().st_uid == 0 and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o555)
    # The modules are imported before the user is changed: that user may not be able to see the interpreter's home.
    script = f"""
import os, sys
from hotpath.batch import build
from hotpath.errors import StoreError
from hotpath.site import Hotpath
os.setgid({NOBODY})
os.setuid({NOBODY})
hot = Hotpath(sys.argv[1])
hot.route("/a")(lambda: [2])
hot.reader.start()
print(hot.current().generation)
try:
    build(hot)
except StoreError as error:
    print(error)
"""
    found = subprocess.run(
        [sys.executable, "-c", script, str(hot.store.root)], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.stdout.startswith("1\n"), "the web user reads what root's batch wrote: " + found.stderr
    assert "Permission denied" in found.stdout
    assert f"chown -R {NOBODY} {hot.store.root}" in found.stdout


def test_functions_that_fail_on_a_full_disk_are_failures_of_their_item(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot")

    def page() -> None:
        raise OSError(28, "No space left on device")

    hot.route("/a")(page)
    with pytest.raises(BuildFailed) as caught:
        build(hot)
    assert caught.value.failures[0].key == "/a"
