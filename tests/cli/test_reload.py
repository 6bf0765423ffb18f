"""``hotpath reload --when quiet``: it says until when it waits, waits, and only then asks the front."""

from __future__ import annotations

import http.server
import os
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hotpath.cli.commands import main

LINE = '66.249.66.1 - - [{time:%d/%b/%Y:%H:%M:%S} +0000] "GET /a HTTP/1.1" 200 1 "-" "Googlebot/2.1"\n'


@contextmanager
def front(base: Path) -> Iterator[list[tuple[str, float]]]:
    """The command socket of a front that takes every command; what it was asked, and when."""
    asked: list[tuple[str, float]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, time.time()))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"message": "the new app has the requests"}')

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: object) -> None:
            return None

    directory = base / f"{os.getpid()}-x"
    directory.mkdir(mode=0o700)
    with socketserver.ThreadingUnixStreamServer(str(directory / "control.sock"), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    base = tmp_path_factory.mktemp("r", numbered=True)
    base.chmod(0o700)
    monkeypatch.setenv("HOTPATH_RUN", str(base))
    return base


def log_with_quiet(path: Path, quiet: set[datetime]) -> str:
    """A day until now, with a crawler's request in every minute but these."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    times = (now - timedelta(minutes=minute) for minute in range(1440))
    path.write_text("".join(LINE.format(time=at) for at in times if not {at, at + timedelta(days=1)} & quiet))
    return str(path)


def reload(*options: str) -> Result:
    return CliRunner().invoke(main, ["reload", *options])


def test_a_quiet_time_is_taken_at_once(base: Path, tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    path = log_with_quiet(tmp_path / "log", {now + timedelta(minutes=minute) for minute in range(15)})
    with front(base) as asked:
        done = reload("--when", "quiet", "--log", path, "--window", "5m")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("now: 0 crawler requests expected in 5 minutes, ")
    assert done.output.endswith("the new app has the requests\n")
    assert [path for path, _ in asked] == ["/reload"]


def test_with_no_time_to_wait_the_least_bad_is_now(base: Path, tmp_path: Path) -> None:
    path = log_with_quiet(tmp_path / "log", set())
    with front(base) as asked:
        done = reload("--when", "quiet", "--log", path, "--max", "0s")
    assert done.output.startswith("now: no window within 0s is quiet, this one has the fewest: 10 crawler requests")
    assert len(asked) == 1


@pytest.mark.slow
def test_it_waits_until_the_minute_that_it_names(base: Path, tmp_path: Path) -> None:
    # Two minutes ahead where this one is nearly over while the log is written.
    ahead = 1 if datetime.now(UTC).second < 50 else 2
    until = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=ahead)
    path = log_with_quiet(tmp_path / "log", {until})
    with front(base) as asked:
        done = reload("--when", "quiet", "--log", path, "--window", "1m", "--max", "1h")
    assert f"({until:%H:%M} UTC)" in done.output
    assert done.output.startswith("waiting until ")
    assert until.timestamp() <= asked[0][1] < until.timestamp() + 20


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--when", "quiet"), "write both: --when quiet, and --log"),
        (("--log", "x"), "write both: --when quiet, and --log"),
        (("--when", "quiet", "--log", "no-such-file"), "no-such-file: No such file"),
        (("--when", "quiet", "--log", __file__), "no line of an access log"),
    ],
)
def test_what_cannot_be_waited_for_is_said(base: Path, options: tuple[str, ...], problem: str) -> None:
    with front(base) as asked:
        done = reload(*options)
    assert done.exit_code == 2
    assert problem in done.output
    assert asked == []


def test_without_a_front_it_does_not_begin_to_wait(base: Path, tmp_path: Path) -> None:
    done = reload("--when", "quiet", "--log", log_with_quiet(tmp_path / "log", set()))
    assert done.exit_code == 1
    assert "no front runs as this user" in done.output
