"""Every operation on the store's files goes through one object, so that each can be counted, failed or replayed.

``Disk`` is a thin set of system calls and holds no state. Tests put a recording or failing one in its place; in
production there is nothing between the caller and the kernel. No operation that changes or reads follows a link in the
last component of its path, and none opens anything but a regular file or a directory.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
from pathlib import Path

from hotpath.errors import UnsafePath

# What is published is replaced, never edited: an unchanged file of all generations is one file with many names.
FILE_MODE = 0o444
# For the operator and the group of the files: what items print or raise may be in it.
PRIVATE_MODE = 0o640
DIRECTORY_MODE = 0o755
# The sticky bit, which means nothing where only the owner may write, and which no umask takes away.
UNFINISHED = 0o1000
LOCK_MODE = 0o600


class Disk:
    """The operations of a publish, one method each. All raise ``OSError`` as the kernel gives it."""

    def make_directory(self, path: Path) -> None:
        """One new directory, readable by others whatever the umask says: the web user is seldom the batch's."""
        path.mkdir(DIRECTORY_MODE)
        path.chmod(DIRECTORY_MODE)

    def begin_directory(self, path: Path) -> None:
        """The same for one that lasts, with a mark: whoever finds the mark goes on where the first was killed."""
        path.mkdir(UNFINISHED | DIRECTORY_MODE)

    def finish_directory(self, path: Path) -> None:
        """Readable by others, and without the mark."""
        path.chmod(DIRECTORY_MODE)

    def write_new(self, path: Path, data: bytes, mode: int = FILE_MODE) -> None:
        """A new file with these bytes; an existing one, also a dangling link, is an error. Not yet durable.

        It has ``mode`` whatever the umask says: the web user is seldom the batch's.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            _write_all(descriptor, data)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def append(self, path: Path, data: bytes) -> None:
        """Add lines to a file that may not exist yet, which gets ``PRIVATE_MODE``. Not yet durable.

        A line that was torn does not swallow the first.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags, PRIVATE_MODE)
        try:
            _require_own(descriptor, path)
            _make_private(descriptor)
            size = os.fstat(descriptor).st_size
            is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            _write_all(descriptor, b"\n" + data if is_torn else data)
        finally:
            os.close(descriptor)

    def sync_file(self, path: Path) -> None:
        """fsync(2) of one file. An error is final: the kernel marks the pages clean after it has reported it once."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_directory(self, path: Path) -> None:
        """fsync(2) of a directory: makes its entries durable, not the files behind them. The root may be a link."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_tree(self, path: Path) -> None:
        """Everything below ``path``: one syncfs(2) where the kernel's reports errors, else file by file."""
        if _syncfs is None:
            self.sync_each(path)
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if _syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(path))
        finally:
            os.close(descriptor)

    def sync_each(self, path: Path) -> None:
        """Everything below ``path``, with one fsync(2) for each file and directory."""
        for directory, _, files in os.walk(path, onerror=_raise):
            for name in files:
                self.sync_file(Path(directory, name))
            self.sync_directory(Path(directory))

    def link(self, source: Path, target: Path) -> None:
        """A second name for the same bytes."""
        os.link(source, target, follow_symlinks=False)

    def symlink(self, text: str, path: Path) -> None:
        """A new symbolic link that says ``text``."""
        path.symlink_to(text)

    def rename(self, source: Path, target: Path) -> None:
        """Move to a name that is free; a directory cannot replace one that holds something."""
        source.rename(target)

    def replace(self, source: Path, target: Path) -> None:
        """Move over whatever has that name, atomically."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove one name; none there is not an error."""
        path.unlink(missing_ok=True)

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory."""
        path.rmdir()

    def remove_tree(self, path: Path) -> None:
        """Remove a directory and all below it, one operation after the other; never follows a link."""
        if path.is_symlink():  # os.walk follows the first one
            self.unlink(path)
            return
        for directory, directories, files in os.walk(path, topdown=False, onerror=_raise):
            for name in files:
                self.unlink(Path(directory, name))
            for name in directories:
                below = Path(directory, name)
                if below.is_symlink():
                    self.unlink(below)
                else:
                    self.remove_directory(below)
        self.remove_directory(path)

    def read(self, path: Path) -> bytes:
        """All bytes of a regular file. A link, FIFO or device raises ``UnsafePath`` (and cannot block)."""
        descriptor = self.open_regular(path)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def open_regular(self, path: Path) -> int:
        """A descriptor for reading a regular file."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            if path.is_symlink():
                raise UnsafePath("this is a symbolic link, expected a file", path=path, fix="remove it") from None
            raise
        try:
            _require_regular(descriptor, path)
        except UnsafePath:
            os.close(descriptor)
            raise
        return descriptor

    def open_lock(self, path: Path) -> int:
        """A descriptor of a lock file, made where it is missing. Only its owner can open it, and so hold it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, LOCK_MODE)
        except OSError:
            if path.is_symlink():
                raise UnsafePath("the lock is a symbolic link, expected a file", path=path, fix="remove it") from None
            raise
        try:
            _require_own(descriptor, path)
            if os.fstat(descriptor).st_mode & 0o077:
                os.fchmod(descriptor, LOCK_MODE)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def try_lock(self, descriptor: int, *, shared: bool = False) -> bool:
        """flock(2) without waiting. Held until the descriptor is closed, so a killed holder frees it at once.

        Anybody who may open the file may hold it. ``locks`` knows what that means, and what to do without locks.
        """
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def overwrite(self, descriptor: int, data: bytes) -> None:
        """Replace what an open file holds, in place: for the text in the lock, which nobody needs whole."""
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _require_regular(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise UnsafePath("this is not a regular file", path=path, fix="remove it")


def is_file_at(descriptor: int, path: Path) -> bool:
    """Whether what was opened still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def stat_signature(path: Path) -> tuple[int, int, int] | None:
    """What changes when another file, or other bytes, get this name; ``None`` where there is none."""
    try:
        state = path.lstat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


def _require_own(descriptor: int, path: Path) -> None:
    """A file that is changed in place must have no second name: what is behind that one would change with it."""
    _require_regular(descriptor, path)
    if os.fstat(descriptor).st_nlink != 1:
        raise UnsafePath("this file has a second name (a hard link)", path=path, fix="put a copy in its place")


def _make_private(descriptor: int) -> None:
    """Undo what the umask did to a file of ours; one that is another's is left alone."""
    state = os.fstat(descriptor)
    if state.st_uid == os.geteuid() and stat.S_IMODE(state.st_mode) != PRIVATE_MODE:
        os.fchmod(descriptor, PRIVATE_MODE)


def _raise(error: OSError) -> None:
    raise error


def _find_syncfs() -> ctypes._NamedFuncPointer | None:
    try:
        # Before 5.8 syncfs(2) says that all is well also where writing back has failed.
        if tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) < (5, 8):
            return None
        return ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError, ValueError):  # not Linux, or a C library without it
        return None


_syncfs = _find_syncfs()
