"""The logger of hotpath, and warnings that are logged once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("hotpath")

# Maximum problems that are remembered; beyond it a problem may be logged again.
MAX_REMEMBERED = 1000


@contextmanager
def held_back() -> Iterator[list[logging.LogRecord]]:
    """Hold what is logged meanwhile, in all threads; it is logged at the end, unless it is taken out of the list.

    For a command whose own answer says the same.
    """
    records: list[logging.LogRecord] = []

    def hold(record: logging.LogRecord) -> bool:
        records.append(record)
        return False

    logger.addFilter(hold)
    try:
        yield records
    finally:
        logger.removeFilter(hold)
        for record in records:
            logger.handle(record)


class Once:
    """Log each problem once, until it is forgotten: a fault that lasts is one line, not one a request."""

    def __init__(self, max_remembered: int = MAX_REMEMBERED) -> None:
        self._logged: set[str] = set()
        self._max_remembered = max_remembered

    def is_new(self, key: str) -> bool:
        """Whether ``key`` was not seen since it was last forgotten; it is seen from now on."""
        if key in self._logged:
            return False
        if len(self._logged) >= self._max_remembered:
            self._logged.clear()
        self._logged.add(key)
        return True

    def warn(self, problem: str, key: str | None = None) -> None:
        """Log ``problem`` as a warning if its ``key`` (by default its text) is new."""
        if self.is_new(problem if key is None else key):
            logger.warning("hotpath: %s", problem)

    def forget(self, key: str) -> None:
        """Log the problem with this key again when it comes back."""
        self._logged.discard(key)

    def clear(self) -> None:
        """Forget all problems."""
        self._logged.clear()
