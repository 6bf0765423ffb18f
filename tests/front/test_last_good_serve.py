"""Last good answers of ``hotpath serve``: the app is a child that is killed, and one that does not come up again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.front.forwarding import wait_until
from tests.front.serving import Serving, make_site, serving

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("HOTPATH_TEST_KILLS", "3"))
PATIENCE_SECONDS = 1.0
SLACK_SECONDS = 2.0


def named_pid(serve: Serving) -> int:
    """The process that a page names, which may be a last good answer; that there is one is asserted."""
    status, body = serve.get("/who")
    assert status == 200, body
    return int(body.split()[1])


def test_pages_of_an_app_that_is_killed_and_does_not_come_back(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    options = ("--last-good", "8MiB", "--patience", f"{PATIENCE_SECONDS}s", "--hold", "2s")
    with serving(site, *options) as serve:
        for _ in range(KILLS):
            pid = named_pid(serve)
            os.kill(pid, signal.SIGKILL)
            until = time.monotonic() + 30
            while named_pid(serve) == pid:  # asserts that it is a 200
                assert time.monotonic() < until
                time.sleep(0.05)
        pid = named_pid(serve)
        (site / "version").write_text("broken")
        os.kill(pid, signal.SIGKILL)
        for _ in range(10):
            began = time.monotonic()
            assert named_pid(serve) == pid
            assert time.monotonic() - began < PATIENCE_SECONDS + SLACK_SECONDS
        assert serve.get("/hold?1")[0] == 503  # nobody has ever asked for it
        assert serve.get("/rankings/k1")[0] == 200
        (site / "version").write_text("2")
        wait_until(lambda: named_pid(serve) != pid, 60)


def test_an_app_that_is_stopped(tmp_path: Path) -> None:
    """It accepts and says nothing: after the patience there is the last good page."""
    site = make_site(tmp_path / "site")
    with serving(site, "--last-good", "8MiB", "--patience", f"{PATIENCE_SECONDS}s") as serve:
        pid = named_pid(serve)
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                began = time.monotonic()
                assert named_pid(serve) == pid
                assert time.monotonic() - began < PATIENCE_SECONDS + SLACK_SECONDS
        finally:
            os.kill(pid, signal.SIGCONT)
