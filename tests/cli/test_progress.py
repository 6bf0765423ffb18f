"""The bar on a terminal: it shows the counts, and starts no thread, beside which no worker could be forked."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hotpath.cli.progress import sending_progress

SITE = """
import sys, time
from hotpath import Hotpath
hot = Hotpath("hot")

@hot.route("/{n}", each={"n": [1, 2, 3]})
def page(n):
    time.sleep(0.2)
    if sys.flags.safe_path:  # a fresh interpreter
        raise ValueError("not forked")
    return [n]
"""


@pytest.mark.slow
def test_a_build_with_a_bar_forks_its_workers(tmp_path: Path) -> None:
    (tmp_path / "pages.py").write_text(SITE)
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 65536):
                shown.append(data)
        except OSError:  # the other end is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-m", "hotpath", "build", "pages:hot"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run(
        command, cwd=tmp_path, stderr=theirs, capture_output=False, timeout=60, check=False, env=environment
    )
    os.close(theirs)
    reader.join(10)
    os.close(ours)
    text = b"".join(shown).decode()
    assert done.returncode == 0, text
    for count in ("0/3", "1/3", "2/3", "3/3"):
        assert count in text


def test_a_log_says_how_much_is_sent_and_now_and_then_how_much_was(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = sending_progress(stream)
    progress.start(3, 3072)
    progress.sent(1024)
    now[0] += 6
    progress.sent(1024)
    progress.sent(1024)
    progress.finish()
    assert stream.getvalue() == "sending 3 new files, 3.0 KiB\nsent 2/3 files, 2.0 KiB of 3.0 KiB\n"
    quiet = sending_progress(stream := io.StringIO(), quiet=True)
    quiet.start(1, 1)
    quiet.sent(1)
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_of_what_is_sent_also_where_the_sending_begins_anew() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = sending_progress(stream)
    progress.start(2, 2048)
    progress.sent(1024)
    progress.start(3, 3072)
    for _ in range(3):
        progress.sent(1024)
    progress.finish()
    text = stream.getvalue()
    assert "sending" in text
    assert "0/2" in text
    assert "3/3" in text
    assert "3.0 KiB of 3.0 KiB" in text


def test_a_reader_that_is_gone_ends_no_sending() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    progress = sending_progress(Gone())
    progress.start(1, 1)
    progress.sent(1)
    progress.finish()
