"""Returning memory that the allocator keeps, malloc_trim(3)."""

from __future__ import annotations

import ctypes


def trim_malloc() -> bool:
    """Whether memory went back to the kernel. Does nothing, and never fails, where the C library is not glibc.

    Takes milliseconds for a large heap, without the interpreter's lock, but with malloc's: other threads wait for it.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return False
    trim.argtypes = (ctypes.c_size_t,)
    return bool(trim(0) == 1)
