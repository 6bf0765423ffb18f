"""80 % and 90 % go out by the ways of the batch: once however many workers there are, and when it is over."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from hotpath.guard.alarms import CALM_SECONDS, REPEAT_SECONDS, Alarm, Marks
from hotpath.ops.alerts.alerts import Alerts
from hotpath.ops.alerts.environment import alerts_from_environment
from hotpath.ops.alerts.memory import MemoryAlerts
from hotpath.ops.alerts.message import Message
from hotpath.site import Hotpath
from hotpath.store.store import Store
from tests.guard.fakes import Rigged
from tests.guard.waiting import wait_until


def said(shares: list[float | None], seconds: float = 1.0) -> list[str]:
    marks, found = Marks(), []
    for number, share in enumerate(shares):
        kind = marks.note(number * seconds, share)
        if kind is not None:
            found.append(kind)
    return found


@pytest.mark.parametrize(
    ("shares", "kinds"),
    [
        ([0.1, 0.7, 0.79], []),
        ([0.8], ["usage_80"]),
        ([0.85, 0.92, 0.85, 0.95], ["usage_80", "usage_90"]),
        ([0.95, 0.85], ["usage_90"]),
        ([0.81, 0.5, 0.81, 0.5, 0.81], ["usage_80"]),
        ([None, None], []),
    ],
)
def test_each_mark_is_said_once(shares: list[float | None], kinds: list[str]) -> None:
    assert said(shares) == kinds


def test_calm_is_said_after_ten_minutes_and_lets_the_marks_be_said_again() -> None:
    minutes = int(CALM_SECONDS) // 60
    calm: list[float | None] = [0.5] * (minutes + 1)
    assert said([0.81, *calm, *calm, 0.81], 60) == ["usage_80", "calm", "usage_80"]
    assert said([0.81, *calm[:-1], 0.75, *calm[:-1]], 60) == ["usage_80"], "it was not calm all the time"
    assert said([0.81, *calm[:5], None, *calm[:-1]], 60) == ["usage_80"], "nobody knows whether it was"
    assert said([0.3] * 50, 60) == ["calm"], "the process before this one may have said more"


def test_what_lasts_is_said_again_every_day() -> None:
    assert said([0.85] * 51, REPEAT_SECONDS / 24) == ["usage_80"] * 3


class Collecting:
    """A way that keeps what it is given."""

    name = "collecting"

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, message: Message) -> str | None:
        self.messages.append(message)
        return None


def test_workers_tell_once_together_and_once_that_it_is_over(tmp_path: Path) -> None:
    way = Collecting()
    store = Hotpath(tmp_path / "hot").store
    store.root.mkdir(exist_ok=True)
    workers = [MemoryAlerts(Alerts([way], site="here"), store) for _ in range(4)]
    for worker in workers:
        worker(Alarm("usage_80", "memory: 810 MiB of 1000 MiB in use"))
    assert [(one.event, one.kind) for one in way.messages] == [("failed", "memory.usage_80")]
    assert "810 MiB of 1000 MiB" in way.messages[0].subject
    for worker in workers:
        worker(Alarm("calm", "memory: 300 MiB of 1000 MiB in use"))
    assert [one.event for one in way.messages] == ["failed", "resolved"]


def test_what_is_not_sent_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Collecting):
        def send(self, message: Message) -> str | None:
            raise OSError("no route")

    alerts = MemoryAlerts(Alerts([Broken()]), Store(tmp_path))
    with caplog.at_level(logging.WARNING):
        alerts(Alarm("usage_90", "full"))
    assert "alert not sent: collecting" in caplog.text


def test_alerts_without_any_way_are_a_warning_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        MemoryAlerts(alerts_from_environment({}), Store(tmp_path))
    assert "nobody hears of memory that runs short" in caplog.text


def test_a_real_webhook_hears_of_80_and_90(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(orjson.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        monkeypatch.setenv("HOTPATH_ALERT_WEBHOOK", f"http://127.0.0.1:{server.server_port}/hook")
        rigged = Rigged(alarm=MemoryAlerts(alerts_from_environment(), Store(tmp_path)))
        for share in (0.5, 0.81, 0.93):
            rigged.see(share, samples=2)
        wait_until(lambda: not rigged.guard.alarms.is_sending, 60, "not sent")
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
    assert [one["kind"] for one in heard] == ["memory.usage_80", "memory.usage_90"]
    assert "93%" in heard[1]["summary"]


def test_the_guard_alone_does_not_load_the_ways() -> None:
    code = "import sys, hotpath.guard; sys.exit(any(name.startswith('hotpath.ops') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
