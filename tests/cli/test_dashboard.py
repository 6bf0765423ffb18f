"""``hotpath dashboard``: what it refuses before it serves anything."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from hotpath.cli.commands import main


@pytest.fixture
def store(tmp_path: Path) -> str:
    (tmp_path / "hot").mkdir()
    return str(tmp_path / "hot")


def run(*words: str, **environ: str) -> tuple[int, str]:
    done = CliRunner(env=environ).invoke(main, ["dashboard", *words])
    return done.exit_code, done.output


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_others_see_it_with_a_token_only(store: str, host: str) -> None:
    code, output = run(store, "--host", host)
    assert code == 2
    assert f"--host {host}: others could see the page; give --token too" in output


def test_a_short_token_is_none(store: str) -> None:
    code, output = run(store, "--port", "0", HOTPATH_DASHBOARD_TOKEN="short")
    assert code == 2
    assert "16 or more printable ASCII characters" in output
    assert "short\n" not in output


def test_a_port_that_is_taken_is_said_in_one_line(store: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = run(store, "--port", str(port))
    assert (code, output) == (
        1,
        f"hotpath: 127.0.0.1:{port}: another process listens there; end it, or write another --port\n",
    )


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    code, output = run(str(tmp_path / "nothing"))
    assert code == 2
    assert "there is no such directory" in output
