"""What each item of a batch may use."""

from __future__ import annotations

from dataclasses import dataclass

from hotpath.errors import DeclarationError
from hotpath.options import check_between


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemLimits:
    """What each item may use. A route's own ``timeout`` comes before ``timeout_seconds``; ``max_bytes`` is the route's.

    ``memory_bytes`` is what a worker may allocate beyond what the batch holds already, with its children;
    ``output_bytes`` is how much of an item's output is kept. Raises ``DeclarationError``.
    """

    memory_bytes: int = 512 * 1024 * 1024
    timeout_seconds: float = 60.0
    workers: int = 1
    output_bytes: int = 16 * 1024

    def __post_init__(self) -> None:
        if self.memory_bytes < 16 * 1024 * 1024:
            raise DeclarationError(f"memory={self.memory_bytes}: less than 16 MiB is too little for any Python code")
        check_between(self.timeout_seconds, "timeout", 1e-3, 7 * 86400, "write the seconds that one item may take")
        check_between(self.workers, "workers", 1, 64, "write 1 to 64")
