"""The bar on a terminal: it shows the counts, and starts no thread, beside which no worker could be forked."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest

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
