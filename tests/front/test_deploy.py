"""A new version beside the old one, under load: no request is lost, and one that does not start changes nothing."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.front.forwarding import wait_until
from tests.front.serving import Serving, is_alive, load, make_site, serving
from tests.guard.groups import memory_group, needs_groups


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return make_site(tmp_path / "site")


@pytest.mark.slow
@pytest.mark.parametrize("deploys", [20, pytest.param(200, marks=pytest.mark.serial)])
def test_deploys_under_load_cost_no_request(site: Path, deploys: int) -> None:
    with serving(site, "--drain", "5s") as serve, load(serve.port) as clients:
        for number in range(2, deploys + 2):
            (site / "version").write_text(str(number))
            done = serve.command("reload")
            assert (done.returncode, done.stdout) == (0, "the new version of the app serves\n"), serve.text
            assert serve.get("/who")[1].startswith(f"{number} ".encode())
    assert clients.problems == []
    assert min(clients.seen.values()) > deploys


@pytest.mark.slow
def test_a_version_that_does_not_start_changes_nothing(site: Path) -> None:
    with serving(site, "--start-timeout", "3s") as serve:
        first = serve.app_pid()
        with load(serve.port) as clients:
            for version, says in (("broken", "RuntimeError: this version does not start"), ("slow", "it is not ready")):
                (site / "version").write_text(version)
                done = serve.command("reload")
                assert (done.returncode, done.stdout) == (1, "")
                assert "did not come up" in done.stderr
                assert says in serve.text
                assert serve.app_pid() == first
        assert clients.problems == []
        assert serve.text.count("the old one goes on") == 2


@pytest.mark.slow
def test_the_readiness_path_decides_when_a_new_version_gets_requests(site: Path) -> None:
    with serving(site, "--start-timeout", "2s", "--ready", "/readyz") as serve:
        first = serve.app_pid()
        (site / "version").write_text("unready")
        assert serve.command("reload").returncode == 1
        assert serve.app_pid() == first


@pytest.mark.slow
def test_running_requests_of_the_old_version_end_there(site: Path) -> None:
    with serving(site) as serve:
        first = serve.app_pid()
        with load(serve.port, cold_clients=0, posting=0) as clients:
            clients.start("slow", 4, lambda connection, _: ask_slow(connection), 0.0)
            time.sleep(0.2)
            (site / "version").write_text("2")
            serve.process.send_signal(signal.SIGHUP)
            wait_until(lambda: not is_alive(first))
        assert clients.problems == []


def ask_slow(connection: object) -> None:
    connection.request("GET", "/slow")  # type: ignore[attr-defined]
    answer = connection.getresponse()  # type: ignore[attr-defined]
    assert answer.status == 200, answer.read()
    answer.read()


@pytest.mark.slow
@needs_groups
def test_with_too_little_memory_for_two_the_old_one_ends_first(site: Path) -> None:
    with memory_group(300 * 1024 * 1024) as group:
        join = ("sh", "-c", f'echo $$ > {group.directory}/cgroup.procs && exec "$0" "$@"')
        with serving(site, "--memory", "200MiB", prefix=join) as serve:
            first = serve.app_pid()
            assert serve.get("/hold?120")[0] == 200
            with load(serve.port) as clients:
                (site / "version").write_text("2")
                assert serve.command("reload").returncode == 0, serve.text
                assert serve.get("/who")[1].startswith(b"2 ")
            assert clients.problems == []
            assert "memory does not suffice for two" in serve.text
            assert not is_alive(first)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["uvicorn", "granian", "gunicorn", "hypercorn"])
def test_a_server_that_listens_before_its_workers_have_the_app_is_not_ready(site: Path, server: str) -> None:
    pytest.importorskip(server)
    options = ("--server", server, "--workers", "2", "--start-timeout", "15s", "--port", "{port}")
    serve = Serving(site, "serve", "mysite1:app", *options)
    try:
        serve.wait_for("hotpath: serving on")
        assert serve.get("/who")[1].startswith(b"1 ")
        with load(serve.port, hot_clients=1, cold_clients=2) as clients:
            (site / "version").write_text("broken")
            assert serve.command("reload").returncode == 1, serve.text
            (site / "version").write_text("2")
            assert serve.command("reload").returncode == 0, serve.text
            assert serve.get("/who")[1].startswith(b"2 ")
        assert clients.problems == []
    finally:
        serve.stop()
