"""How long an app that ended has to wait, and how each server is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotpath import Hotpath, HotpathMiddleware
from hotpath.errors import DeclarationError
from hotpath.front.discovery import facts_of, site_of
from hotpath.front.restarts import MAX_DELAY_SECONDS, STEADY_SECONDS, Restarts
from hotpath.front.servers import SERVERS, command_of


def test_at_once_then_ever_later_and_a_steady_life_begins_anew() -> None:
    restarts = Restarts()
    assert [restarts.ended(1) for _ in range(9)] == [0, 1, 2, 4, 8, 16, MAX_DELAY_SECONDS, 30, 30]
    assert restarts.ended(STEADY_SECONDS) == 0
    assert restarts.ended(1) == 1
    restarts.forget()
    assert restarts.ended(1) == 0
    assert restarts.total == 12


def test_a_crash_loop_is_said_once() -> None:
    restarts = Restarts()
    said = []
    for _ in range(10):
        restarts.ended(0.1)
        said.append(restarts.is_loop_now)
    assert said.count(True) == 1


@pytest.mark.parametrize("server", SERVERS)
def test_each_server_listens_on_the_socket(server: str) -> None:
    command = command_of(server, "app:app", "/run/app.sock", 3)
    assert any("/run/app.sock" in word for word in command)
    assert "app:app" in command
    assert "3" in command


def test_a_command_of_ones_own() -> None:
    assert command_of("node server.js --listen {socket}", "x", "/a b.sock", 1) == [
        "node",
        "server.js",
        "--listen",
        "/a b.sock",
    ]
    for wrong in ("node server.js", "nonsense", "'unclosed {socket}", ""):
        with pytest.raises(DeclarationError):
            command_of(wrong, "x", "/a", 1)


def test_the_front_reads_a_site_as_the_app_does(tmp_path: Path) -> None:
    hot = Hotpath(
        tmp_path / "hot",
        refresh=0.5,
        max_body_bytes="3MiB",
        redirect_slashes=True,
        generation_header=False,
        headers={"x-a": "b"},
        hosts=["example.org", "*.example.net"],
        ignore_query=["ref_*", "tag"],
    )
    hot.directory("/d/{name}", tmp_path / "d" / "{name}.json", cache_control="max-age=5", lifetime=77, fold_case=True)

    async def app(scope: object, receive: object, send: object) -> None: ...

    facts = facts_of(HotpathMiddleware(app, hot=hot))
    assert facts is not None
    seen = site_of(facts)
    assert seen.reading == hot.reading
    assert seen.store.root == hot.store.root
    assert seen.directories == hot.directories
