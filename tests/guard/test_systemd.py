"""systemd's protocol, against a real datagram socket."""

from __future__ import annotations

import os
import socket
import sys
import time
import uuid
from pathlib import Path

import pytest

from hotpath.guard.systemd import notify, watchdog_seconds


def listen(address: str) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(address)
    receiver.settimeout(10)
    return receiver


def test_lines_arrive_in_one_datagram_each_call(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with listen(address) as receiver:
        assert notify("READY=1", "STATUS=generation 7, größer", environ={"NOTIFY_SOCKET": address})
        assert notify("WATCHDOG=1", environ={"NOTIFY_SOCKET": address})
        assert receiver.recv(1000).decode() == "READY=1\nSTATUS=generation 7, größer"
        assert receiver.recv(1000) == b"WATCHDOG=1"


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux")
def test_an_abstract_socket() -> None:
    name = f"hotpath-test-{uuid.uuid4().hex}"
    with listen("\0" + name) as receiver:
        assert notify("STOPPING=1", environ={"NOTIFY_SOCKET": "@" + name})
        assert receiver.recv(1000) == b"STOPPING=1"


def test_the_environment_of_the_process_is_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "notify")
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    with listen(address) as receiver:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        assert notify("READY=1")
        assert receiver.recv(1000) == b"READY=1"


@pytest.mark.parametrize(
    "address", ["", "relative/path", "vsock:2:1234", "/nobody/listens", "@", "/" + "x" * 300, "/a\0b"]
)
def test_nobody_there_is_no_error(address: str) -> None:
    assert not notify("READY=1", environ={"NOTIFY_SOCKET": address})


def test_a_reader_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    """Fifty times: waiting for it, however shortly, would be seen."""
    address = str(tmp_path / "notify")
    with listen(address):
        sent = [True]
        while sent[-1] and len(sent) < 100_000:
            sent.append(notify("STATUS=" + "x" * 1000, environ={"NOTIFY_SOCKET": address}))
        assert not sent[-1]
        started = time.monotonic()
        for _ in range(50):
            assert not notify("WATCHDOG=1", environ={"NOTIFY_SOCKET": address})
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.25),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getppid())}, 0.25),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "4194305"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "٣"}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time(environ: dict[str, str], expected: float | None) -> None:
    assert watchdog_seconds(environ) == expected
