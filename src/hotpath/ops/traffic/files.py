"""Lines of logs: plain or gzip files of a rotated set, in any order, or standard input; never more than a block."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

from hotpath.errors import DeclarationError
from hotpath.ops.traffic.lines import MAX_LINE_BYTES

BLOCK_BYTES: Final = 1024 * 1024
_GZIP: Final = b"\x1f\x8b"


def blocks(path: str, warnings: list[str]) -> Iterator[list[bytes]]:
    """The lines of a file, without their ends, some at a time; ``-`` is standard input.

    A gzip file that ends too soon, as one does that is written at the moment, is read up to there, and ``warnings``
    says so. Raises ``DeclarationError`` for a file that is not there.
    """
    with _opened(path) as file:
        rest = b""
        while True:
            try:
                block = file.read(BLOCK_BYTES)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                warnings.append(f"{path}: the compressed data is damaged or ends too soon; read up to there ({error})")
                break
            if not block:
                break
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            if len(rest) > MAX_LINE_BYTES:
                # Counted as one bad line; its end will look like another.
                lines.append(rest[: MAX_LINE_BYTES + 1])
                rest = b""
            yield lines
        if rest:
            yield [rest]


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(path).open("rb") as file:
            is_gzip = file.read(2) == _GZIP
            file.seek(0)
            if is_gzip:
                with gzip.open(file) as unpacked:
                    yield cast(BinaryIO, unpacked)
            else:
                yield file
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise DeclarationError(
            f"{path}: {error.strerror}; give the access logs of the site, or - to read them from standard input"
        ) from error
