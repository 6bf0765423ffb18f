"""A pointer: the file that names the generation to serve."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hotpath.errors import Corrupt

REPAIR = "'hotpath verify TARGET --repair' makes it again, or goes back to what holds"
_POINTER = re.compile(rb"(\d{1,18}) sha256:([0-9a-f]{64})\n?")


@dataclass(frozen=True, slots=True)
class Pointer:
    """The content of ``CURRENT`` or ``PIN``: a generation and the SHA-256 of its manifest file."""

    sequence: int
    sha256: bytes

    @classmethod
    def parse(cls, data: bytes, path: Path) -> Pointer:
        match = _POINTER.fullmatch(data)
        if not match:
            raise Corrupt(f"expected '<number> sha256:<digest>', found {data[:60]!r}", path=path, fix=REPAIR)
        return cls(int(match.group(1)), bytes.fromhex(match.group(2).decode("ascii")))

    def encode(self) -> bytes:
        return b"%d sha256:%s\n" % (self.sequence, self.sha256.hex().encode("ascii"))
