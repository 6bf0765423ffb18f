"""The command lines of the app's servers."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from hotpath.errors import DeclarationError
from hotpath.front.servers import ServerCommand, environment

SOCKET = Path("/run/x/app-1.sock")


def test_uvicorn_with_one_process_is_killed_with_the_front() -> None:
    command = ServerCommand.of("uvicorn", "myapp:app")
    assert command.at(SOCKET) == [
        *(sys.executable, "-m", "uvicorn", "--uds", str(SOCKET), "--forwarded-allow-ips", "*", "myapp:app")
    ]
    assert command.death_signal == signal.SIGKILL


@pytest.mark.parametrize("server", ["uvicorn", "granian", "gunicorn", "hypercorn"])
def test_each_takes_workers_and_can_end_them(server: str) -> None:
    command = ServerCommand.of(server, "myapp:app", 3)
    words = command.at(SOCKET)
    assert words[words.index("--workers") + 1] == "3"
    assert any(str(SOCKET) in word for word in words)
    assert words[-1] == "myapp:app"
    assert command.death_signal == signal.SIGTERM


def test_a_command_of_ones_own_is_split_as_a_shell_does_and_never_run_by_one() -> None:
    command = ServerCommand.of("node 'my server.js' --listen={socket} {app} $HOME", "site", 2)
    assert command.at(SOCKET) == ["node", "my server.js", f"--listen={SOCKET}", "site", "$HOME"]


def test_a_name_in_braces_in_the_app_is_its_own() -> None:
    assert ServerCommand.of("run {socket} {app}", "a{workers}").at(SOCKET)[2] == "a{workers}"


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ("uvcorn", r"write uvicorn, granian, gunicorn, hypercorn, or a command with \{socket\}"),
        ("node 'server.js {socket}", "No closing quotation"),
        ("", r"a command with \{socket\}"),
    ],
)
def test_a_server_that_is_none_is_refused(server: str, says: str) -> None:
    with pytest.raises(DeclarationError, match=says):
        ServerCommand.of(server, "myapp:app")


def test_a_server_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotpath.front.servers.find_spec", lambda name: None)
    with pytest.raises(DeclarationError, match="--server granian: it is not installed here; pip install granian"):
        ServerCommand.of("granian", "myapp:app")


def test_the_app_does_not_answer_systemd_in_the_fronts_name() -> None:
    inherited = {"PATH": "/bin", "NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "LISTEN_FDS": "1", "LISTEN_PID": "1"}
    assert environment(inherited) == {"PATH": "/bin"}


def test_the_app_does_not_get_the_token_of_the_admin_port() -> None:
    assert environment({"PATH": "/bin", "HOTPATH_ADMIN_TOKEN": "secret"}) == {"PATH": "/bin"}
