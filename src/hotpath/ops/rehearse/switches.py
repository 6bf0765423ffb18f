"""What the rehearsal tells the site's process, and hears from it: a page of numbers that both have mapped.

It outlives the process, which may be killed at any moment, and reading it costs a request nothing.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Final

_NAMES: Final = (
    # Written by the rehearsal: how many leaks it has ordered, bytes that a request leaks, until when (monotonic
    # milliseconds) requests are slow, the database is gone, or the next one blocks the event loop.
    *("leaks_ordered", "leak_bytes", "slow_until", "database_until", "block_until"),
    # Written by the process: its id, how many have started, how many leaks have ended with their process, whether
    # this one leaks now, and how much it has leaked.
    *("pid", "starts", "leaks_done", "is_leaking", "leaked_bytes"),
)
_NUMBER: Final = struct.Struct("=q")
SIZE: Final = len(_NAMES) * _NUMBER.size
ENVIRONMENT: Final = "HOTPATH_REHEARSAL"


class Switches:
    """The page of ``path``, made where it is not there. ``switches["leak_bytes"] = 4096``."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, SIZE)
            self._page = mmap.mmap(descriptor, SIZE)
        finally:
            os.close(descriptor)

    def __getitem__(self, name: str) -> int:
        return int(_NUMBER.unpack_from(self._page, _NAMES.index(name) * _NUMBER.size)[0])

    def __setitem__(self, name: str, value: int) -> None:
        _NUMBER.pack_into(self._page, _NAMES.index(name) * _NUMBER.size, value)

    def close(self) -> None:
        """Unmap it."""
        self._page.close()
