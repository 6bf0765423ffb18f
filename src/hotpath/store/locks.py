"""Locks of a store on a machine with other users, and on a file system without locks.

Anybody who may open a file may hold its flock(2). So what has to be exclusive is a file that only its owner can open,
and a lock on a file that others can read is a protection that nothing waits for.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import psutil

from hotpath.errors import StoreBusy
from hotpath.process.fork import LOCK_DESCRIPTORS
from hotpath.store.disk import Disk

# NFS without its lock daemon, Lustre mounted without "flock", a FUSE file system that has none.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})

# Without locks: two that have found the file free at the same moment have both written their number by then.
_SETTLE_SECONDS = 0.05

# Descriptors of lock files without a lock of the kernel's.
_BY_NUMBER: set[int] = set()


def take(disk: Disk, path: Path, subject: Path) -> int:
    """The descriptor of a lock file, with its lock; to be given to ``give_back``. It holds the number of this process.

    Raises ``StoreBusy`` about ``subject`` at once where another process has the lock, or ``OSError``. The kernel frees
    it when its holder dies. Where the kernel has no locks, the number in the file is the lock for as long as that
    process lives.
    """
    descriptor = disk.open_lock(path)
    # What is forked from here must not keep it when this process is gone.
    LOCK_DESCRIPTORS.add(descriptor)
    try:
        has_locks = True
        try:
            is_taken = not disk.try_lock(descriptor)
        except OSError as error:
            if not is_without_locks(error):
                raise
            has_locks = False
            is_taken = _is_taken_by_number(descriptor)
            _BY_NUMBER.add(descriptor)
        if not is_taken:
            disk.overwrite(descriptor, b"%d\n" % os.getpid())
            if not has_locks:
                time.sleep(_SETTLE_SECONDS)
                is_taken = _holder(descriptor) != os.getpid()
        if is_taken:
            raise StoreBusy(path=subject, pid=_holder(descriptor))
    except BaseException:
        _close(descriptor)
        raise
    return descriptor


def give_back(disk: Disk, descriptor: int) -> None:
    """Free a lock that ``take`` has taken."""
    try:
        if descriptor in _BY_NUMBER:
            disk.overwrite(descriptor, b"")
    finally:
        _close(descriptor)


def hold(disk: Disk, descriptor: int) -> bool:
    """Keep the generation of an open manifest from being pruned; whether that is certain.

    It is not where somebody has locked the manifest, which anybody may who can read it, or where there are no locks:
    a reader reads all the same.
    """
    try:
        return disk.try_lock(descriptor, shared=True)
    except OSError:
        return False


def is_without_locks(error: OSError) -> bool:
    """Whether flock(2) has failed because the file system has no locks."""
    return error.errno in _NO_LOCKS


def _close(descriptor: int) -> None:
    LOCK_DESCRIPTORS.discard(descriptor)
    _BY_NUMBER.discard(descriptor)
    os.close(descriptor)


def _holder(descriptor: int) -> int | None:
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isdigit() else None


def _is_taken_by_number(descriptor: int) -> bool:
    """Whether the process whose number is in the file lives, and is not a later one with the same number."""
    pid, state = _holder(descriptor), os.fstat(descriptor)
    if pid is None:
        return False
    if pid == os.getpid():
        return any(os.path.samestat(os.fstat(other), state) for other in LOCK_DESCRIPTORS - {descriptor})
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= state.st_mtime + 1
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
