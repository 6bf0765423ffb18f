"""Give freed memory back to the kernel, where the allocator keeps it.

glibc returns the top of its heap by itself and holes below it only when asked (malloc_trim(3)). Small Python objects
live in pymalloc's arenas, which it cannot touch; what it gives back are buffers, strings and the memory of libraries.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def trim_malloc() -> bool:
    """Whether memory went back to the kernel. Does nothing, and never fails, where the C library is not glibc.

    Takes milliseconds for a large heap, without the interpreter's lock, but with malloc's: other threads wait for it.
    """
    trim = _malloc_trim()
    return trim is not None and trim(0) == 1


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        function = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    function.argtypes = (ctypes.c_size_t,)
    function.restype = ctypes.c_int
    found: Callable[[int], int] = function
    return found
