"""Real web servers with rendered files: each in a directory of its own, ended by its id."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotpath.ops.render.facts import SiteFacts
from hotpath.ops.render.files import RenderedFile, write
from hotpath.ops.render.nginx import WAIT_PORT
from hotpath.ops.render.whats import WHATS
from tests.wire.differential.test_nginx import free_port, running

PACKAGES = {"nginx": "nginx-light", "caddy": "caddy", "varnish": "varnish"}
_COMMANDS = {"nginx": "nginx", "caddy": "caddy", "varnish": "varnishd"}
_PATH = os.environ.get("PATH", "") + ":/usr/sbin"


def command(program: str) -> str:
    """Its path; the test is skipped where it is not installed."""
    found = shutil.which(_COMMANDS[program], path=_PATH)
    if found is None:
        pytest.skip(f"needs {program}: apt-get install {PACKAGES[program]}")
    return found


def checked(program: str, facts: SiteFacts, directory: Path) -> subprocess.CompletedProcess[str]:
    """What the program's own check says of the rendered files."""
    files = WHATS[program].render(facts)
    write(files, directory / "root")
    arguments = {
        "nginx": lambda: ["-t", "-q", "-p", str(directory), "-c", str(_nginx_file(files, directory))],
        "caddy": lambda: ["validate", "--adapter", "caddyfile", "--config", str(_caddy_file(files, directory))],
        "varnish": lambda: ["-j", "none", "-C", "-n", f"{directory}/work", "-f", f"{directory}/root/{files[0].path}"],
    }[program]()
    return subprocess.run(
        [command(program), *arguments],
        env=_environment(directory),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def served(program: str, facts: SiteFacts, directory: Path, port: int) -> Iterator[None]:
    """The program with the rendered files, listening on ``port``."""
    files = WHATS[program].render(facts)
    write(files, directory / "root")
    path = command(program)
    if program == "nginx":
        start = [path, "-p", str(directory), "-c", str(_nginx_file(files, directory))]
    elif program == "caddy":
        start = [path, "run", "--adapter", "caddyfile", "--config", str(_caddy_file(files, directory))]
    else:
        vcl = str(directory / "root" / files[0].path)
        (directory / "work").mkdir(exist_ok=True)
        options = ["-j", "none", "-F", "-n", str(directory / "work"), "-T", "none", "-s", "malloc,32m"]
        start = [path, *options, "-a", f"127.0.0.1:{port}", "-f", vcl]
    with running(start, port, _environment(directory)):
        yield


def _environment(directory: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(directory), "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}


def _nginx_file(files: list[RenderedFile], directory: Path) -> Path:
    """The http block that a distribution has, with the paths that need root in this directory."""
    user = "user root;" if os.geteuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f'{kind}_temp_path "{directory}/{kind}";' for kind in kinds)
    head = f"{user} daemon off; pid {directory}/pid; error_log {directory}/error.log; events {{}}"
    text = files[0].text.replace("/var/lib/nginx/", f"{directory}/")
    conf = directory / "nginx.conf"
    conf.write_bytes(f"{head} http {{ access_log off; {paths}\n{text}\n}}".encode("utf-8", "surrogateescape"))
    return conf


def _caddy_file(files: list[RenderedFile], directory: Path) -> Path:
    """The rendered file, without the port that Caddy takes commands on."""
    conf = directory / "Caddyfile"
    conf.write_text(f"{{\n\tadmin off\n}}\nimport root/{files[0].path}\n")
    return conf


def two_ports() -> tuple[int, int]:
    """A port for the app, whose next ninth is free too, which nginx waits on; and one for the program."""
    while True:
        app, front = free_port(), free_port()
        try:
            with socket.socket() as wait:
                wait.bind(("127.0.0.1", app + WAIT_PORT))
        except (OSError, OverflowError):
            continue
        if front != app + WAIT_PORT:
            return app, front
