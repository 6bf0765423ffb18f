"""What the kernel says of the store's files, as an error that names the path and the fix."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from hotpath.errors import StoreError

_FIXES = {
    "ENOSPC": "free some space on this file system and run again",
    "EDQUOT": "the disk quota is used up; free some space and run again",
    "EROFS": "the file system is mounted read-only; give a store that can be written",
    "EACCES": "run as the user who owns the store, or give it to this one: chown -R {user} {root}",
    "EPERM": "run as the user who owns the store, or give it to this one: chown -R {user} {root}",
    "ENOTDIR": "a part of this path is a file; give another directory",
    "EEXIST": "something else has this name; move it away",
    "ENOTEMPTY": "something else has this name; move it away",
    "EISDIR": "a directory has the name of a file; move it away",
    "EXDEV": "the whole store has to be on one file system; mount at its root instead",
    "EMFILE": "this process may open no more files; raise 'ulimit -n', or end what leaks them",
    "ENFILE": "the machine may open no more files; end what leaks them, or raise fs.file-max",
    "ENAMETOOLONG": "give the store a directory with a shorter path",
    "EIO": "the disk reported an error; see the kernel's log (dmesg), and 'hotpath status' for what is served",
}


def explain(error: OSError, root: Path) -> StoreError:
    """The ``StoreError`` for an ``OSError`` met while writing the store."""
    name = errno.errorcode.get(error.errno or 0, "")
    fix = _FIXES.get(name)
    if name in ("EACCES", "EPERM") and os.geteuid() == 0:
        fix = "not even root may write here: look at its attributes (lsattr) and at how it is mounted"
    if fix:
        fix = fix.format(user=os.geteuid(), root=root)
    # Of a rename it is the place that is taken, where the kernel says so.
    place = error.filename2 if name in ("EEXIST", "ENOTEMPTY", "EISDIR") and error.filename2 else error.filename
    return StoreError(error.strerror or str(error), path=place or root, fix=fix)


def in_words(error: Exception) -> str:
    """The path and what is wrong with it, without the number that ``str`` puts before them."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)
