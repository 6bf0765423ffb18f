"""Whether a process may leave, by who runs it; how it goes."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hotpath.guard.departure import Surroundings, look_around, uvicorn_server
from tests.guard.waiting import wait_until
from tests.wire.servers.conftest import ROOT, start

PROBE = """
import asyncio, json, os
from hotpath.guard.departure import look_around
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    found = look_around()
    body = json.dumps([found.server, found.is_worker, found.obstacle, os.getpid()]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.mark.parametrize(
    ("surroundings", "may"),
    [
        (Surroundings("uvicorn", is_worker=True, is_respawned=True, is_unit=False), True),
        (Surroundings("uvicorn", is_worker=False, is_respawned=False, is_unit=False), False),
        (Surroundings("uvicorn", is_worker=False, is_respawned=False, is_unit=True), True),
        (Surroundings("gunicorn", is_worker=True, is_respawned=True, is_unit=False), True),
        (Surroundings("hypercorn", is_worker=True, is_respawned=False, is_unit=True), False),
        (Surroundings("hypercorn", is_worker=False, is_respawned=False, is_unit=True), True),
        (Surroundings("granian", is_worker=True, is_respawned=False, is_unit=False), False),
        (Surroundings("granian", is_worker=True, is_respawned=True, is_unit=False), True),
        (Surroundings("unknown", is_worker=False, is_respawned=False, is_unit=False), False),
        (Surroundings("unknown", is_worker=False, is_respawned=False, is_unit=True), True),
    ],
)
def test_who_may_leave(surroundings: Surroundings, may: bool) -> None:
    assert (surroundings.obstacle is None) is may


@pytest.mark.parametrize(
    ("environ", "is_unit"),
    [
        ({}, False),
        ({"INVOCATION_ID": "0123"}, True),
        ({"INVOCATION_ID": "0123", "SYSTEMD_EXEC_PID": str(os.getpid())}, True),
        ({"INVOCATION_ID": "0123", "SYSTEMD_EXEC_PID": "1"}, False),
    ],
)
def test_a_unit_of_systemd_is_known_by_its_environment(environ: dict[str, str], is_unit: bool) -> None:
    assert look_around(environ).is_unit is (is_unit or environ.get("SYSTEMD_EXEC_PID") == str(os.getppid()))


# With names: the workers of pytest must all have the same tests, and have process ids of their own.
@pytest.mark.parametrize(
    ("pid", "may"),
    [
        pytest.param(os.getppid(), True, id="the parent"),
        pytest.param(os.getpid(), False, id="this one"),
        pytest.param(1 << 22, False, id="none"),
        pytest.param("", False, id="empty"),
    ],
)
def test_the_front_is_known_by_its_process_id_which_others_below_it_inherit_too(pid: object, may: bool) -> None:
    found = look_around({"HOTPATH_FRONT_PID": str(pid)})
    assert found.is_behind_front is may
    assert (found.obstacle is None) is may


def test_no_server_is_no_uvicorn() -> None:
    assert uvicorn_server() is None


# What each server is taken for, on the server itself; the last says whether its parent starts the worker again.
SEEN: dict[str, tuple[str, str, bool, bool]] = {
    "uvicorn": ("uvicorn --port {port} --log-level error {app}", "uvicorn", False, False),
    "uvicorn workers": ("uvicorn --workers 2 --port {port} --log-level error {app}", "uvicorn", True, True),
    "gunicorn": (
        "gunicorn --worker-class asgi --workers 2 --bind 127.0.0.1:{port} --log-level error {app}",
        "gunicorn",
        True,
        True,
    ),
    "hypercorn": ("hypercorn --bind 127.0.0.1:{port} --workers 2 --log-level error {app}", "hypercorn", True, False),
    "granian": ("granian --interface asgi --port {port} --workers 2 --log-level error {app}", "granian", True, False),
    "granian respawning": (
        "granian --interface asgi --port {port} --workers 2 --respawn-failed-workers --log-level error {app}",
        "granian",
        True,
        True,
    ),
}


def ask(port: int) -> list[Any]:
    code = (
        f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{port}/', timeout=5).read().decode())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEN)
def test_each_server_is_seen_and_does_what_is_thought_of_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, server, is_worker, may = SEEN[name]
    if importlib.util.find_spec(arguments.split()[0]) is None:
        pytest.skip(f"needs {arguments.split()[0]}")
    (tmp_path / "probe_app.py").write_text(PROBE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT / 'src'}")
    monkeypatch.setattr("tests.wire.servers.conftest.ROOT", tmp_path)
    monkeypatch.setattr("tests.wire.servers.conftest.APP", "probe_app:application")
    started = start(name, arguments, tmp_path, tmp_path / "log")
    try:
        started.await_up()
        found = ask(started.port)
        assert found[:2] == [server, is_worker]
        assert (found[2] is None) is may
        if server == "granian":
            # Where one ends while another only starts, granian neither ends nor goes on. Connections are spread.
            wait_until(lambda: ask(started.port)[3] != found[3], 60, "one worker answers only")
        if is_worker:
            os.kill(found[3], signal.SIGTERM)
            # uvicorn looks after its workers twice a second, gunicorn once; granian takes a while to end.
            deadline = time.monotonic() + (2.5 if may else 60)
            while time.monotonic() < deadline and started.process.poll() is None:
                time.sleep(0.1)
            assert (started.process.poll() is None) is may
            assert started.is_up() is may
            if may:
                wait_until(lambda: ask(started.port)[3] != found[3], 60, "nobody else answers")
    finally:
        started.stop()
