"""Real small file systems, and ways to leave exactly so much room on them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a tmpfs or to change the user")


@contextmanager
def tmpfs(directory: Path, options: str) -> Iterator[Path]:
    """A tmpfs on a new directory, gone at the end whatever happens; skips where the kernel does not allow it."""
    directory.mkdir()
    found = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {found.stderr.strip()}")
    try:
        yield directory
    finally:
        # Also when a failed test has left a file open.
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def leave_bytes(disk: Path, pages: int) -> None:
    """Fill a tmpfs until so many pages of memory are left."""
    found = os.statvfs(disk)
    extra = (found.f_bavail - pages) * found.f_frsize
    assert extra >= 0, "it is fuller than that"
    if extra:
        descriptor = os.open(disk / f"filler-{found.f_favail}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.posix_fallocate(descriptor, 0, extra)
        os.close(descriptor)
    assert os.statvfs(disk).f_bavail == pages


def leave_inodes(disk: Path, inodes: int) -> None:
    """Fill a tmpfs with empty files until so many more can be made."""
    count = os.statvfs(disk).f_favail - inodes
    assert count >= 0, "it is fuller than that"
    for number in range(count):
        (disk / f"filler-{inodes + count - number}").touch()
    assert os.statvfs(disk).f_favail == inodes


def free(disk: Path) -> None:
    """Take away what filled it."""
    for path in disk.glob("filler-*"):
        path.unlink()
