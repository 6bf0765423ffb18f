"""The app killed, stopped, eaten by its memory and in a crash loop, for real: hot pages know nothing of it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import time
from pathlib import Path

import pytest

from hotpath.front.address import Address
from tests.front.forwarding import is_listening, wait_until
from tests.front.serving import Serving, is_alive, load, make_site, serving
from tests.guard.groups import needs_groups

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("served"))


def kill_in_a_loop(serve: Serving, seconds: float, pause: float) -> int:
    """SIGKILL for whoever answers, again and again; how often."""
    until, kills = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        os.kill(serve.app_pid(), signal.SIGKILL)
        kills += 1
        time.sleep(pause)
    return kills


@pytest.mark.parametrize(
    ("seconds", "pause"),
    [(10.0, 3.0), (20.0, 0.0), pytest.param(120.0, 3.0, marks=pytest.mark.serial)],
    ids=["a few times", "as soon as it answers", "two minutes"],
)
def test_an_app_that_is_killed_in_a_loop_costs_no_request(site: Path, seconds: float, pause: float) -> None:
    # Kills without a pause meet the hold alone: with last good answers clients ask on while the app is gone, and a
    # request that is in the app at two kills is a 502.
    with serving(site, *(("--last-good", "off") if not pause else ())) as serve, load(serve.port) as clients:
        kills = kill_in_a_loop(serve, seconds, pause)
    assert clients.problems == []
    assert clients.seen["hot"] > seconds * 50
    assert clients.seen["cold"] >= kills
    assert kills >= seconds / 10
    assert clients.longest["hot"] < 2.0
    assert clients.longest["cold"] < 15.0


def test_an_app_that_is_stopped_is_replaced(site: Path) -> None:
    with serving(site, "--health-timeout", "3s") as serve:
        first = serve.app_pid()
        with load(serve.port, posting=0) as clients:
            os.kill(first, signal.SIGSTOP)
            serve.wait_for("gave no answer for 3 s")
            serve.wait_for("Uvicorn running on unix socket", 2)
            assert serve.app_pid() != first
        assert clients.problems == []
        assert not is_alive(first)


def test_an_app_that_blocks_its_loop_costs_hot_pages_nothing(site: Path) -> None:
    with serving(site) as serve:
        with load(serve.port, cold_clients=2, posting=1) as clients:
            clients.start("blocking", 1, block, 0.1)
            time.sleep(6)
        assert clients.problems == []
        assert clients.longest["cold"] > 0.9
        assert clients.longest["hot"] < 0.5
        assert clients.seen["hot"] > 400


def block(connection: http.client.HTTPConnection, _: int) -> None:
    connection.request("GET", "/block")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200


def test_a_reader_of_the_log_who_is_stuck_stops_nobody(site: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    serve = Serving(site, "serve", "mysite1:app", "--port", "{port}", stdout=writing, stderr=writing)
    try:
        wait_until(lambda: is_listening(Address("127.0.0.1", serve.port)))
        with load(serve.port, posting=0) as clients:
            for _ in range(3):
                first = serve.app_pid()
                os.kill(first, signal.SIGKILL)
                assert serve.app_pid() != first
                time.sleep(2.5)
        assert clients.problems == []
        began = time.monotonic()
        assert serve.stop() == 0
        assert time.monotonic() - began < 10
    finally:
        serve.stop()
        os.close(reading)
        os.close(writing)


@needs_groups
def test_the_kernel_kills_the_app_in_its_group_and_never_the_front(site: Path) -> None:
    with serving(site, "--memory", "150MiB") as serve:
        assert "in a memory group of its own" in serve.text
        with load(serve.port, posting=0) as clients:
            for _ in range(3):
                with contextlib.suppress(OSError):
                    serve.get("/eat")  # sent twice, and then 502: each kills one
                serve.app_pid()
                time.sleep(3)
        assert clients.problems == []
        assert "the kernel had no more memory within 150.0 MiB" in serve.text
        assert serve.process.poll() is None


# Nobody may make a group where the trees are read-only, as in most containers.
READ_ONLY_GROUPS = ("unshare", "-m", "sh", "-c", 'mount -o remount,bind,ro /sys/fs/cgroup/memory && exec "$0" "$@"')


@needs_groups
def test_without_a_group_the_app_is_replaced_at_nine_tenths_and_killed_above_its_limit(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    with serving(site, "--memory", "300MiB", prefix=READ_ONLY_GROUPS) as serve:
        serve.wait_for("looked at twice a second")
        first = serve.app_pid()
        with load(serve.port, posting=0) as clients:
            time.sleep(10)  # before that nothing is replaced
            assert serve.get("/hold?250")[0] == 200
            serve.wait_for("of --memory 300.0 MiB and is replaced")
            serve.wait_for("the new version of the app serves")
            second = serve.app_pid()
            assert second != first
            serve.get("/hold?400")
            serve.wait_for("of --memory 300.0 MiB and is killed")
            assert serve.app_pid() != second
        assert clients.problems == []


def test_a_crash_loop_is_said_once_with_the_last_lines_and_ends_with_a_repair(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    (site / "version").write_text("broken")
    serve = Serving(site, "serve", "mysite1:app", "--store", "store", "--port", "{port}")
    try:
        serve.wait_for("the app does not start")
        with load(serve.port, cold_clients=0, posting=0) as clients:
            time.sleep(5)
        assert clients.problems == []
        assert clients.seen["hot"] > 200
        text = serve.text
        assert text.count("the app does not start") == 1
        assert "\n  RuntimeError: this version does not start\n" in text
        assert 3 <= text.count("app | RuntimeError: this version does not start") <= 6
        (site / "version").write_text("2")
        serve.process.send_signal(signal.SIGHUP)
        assert serve.get("/who")[1].startswith(b"2 ")
    finally:
        serve.stop()
