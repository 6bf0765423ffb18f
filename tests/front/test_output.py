"""What is kept of an app's output when its two streams are read at different speeds."""

from __future__ import annotations

import io
import os
import threading
from typing import IO, cast

from hotpath.front.output import KEEP_LINES, Output


class LateStream(io.BytesIO):
    """Gives nothing until ``may_read`` is set, as a thread that gets no processor time would read it."""

    def __init__(self, data: bytes, may_read: threading.Event) -> None:
        super().__init__(data)
        self._may_read = may_read

    def readline(self, size: int | None = -1, /) -> bytes:
        self._may_read.wait(10)
        return super().readline(size)


def test_a_late_reader_of_standard_output_does_not_push_the_traceback_out_of_the_report() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    may_read = threading.Event()
    out = LateStream(b"printed before\n" * KEEP_LINES, may_read)
    error, written = os.pipe()
    os.write(written, b"Traceback\nKeyError: 'x'\n")
    os.close(written)
    output = Output([(cast("IO[bytes]", out), null), (os.fdopen(error, "rb"), null)], b"app | ")
    threading.Timer(0.05, may_read.set).start()  # standard error has been read by then
    assert output.last_lines() == ["printed before"] * KEEP_LINES + ["Traceback", "KeyError: 'x'"]
    os.close(null)
