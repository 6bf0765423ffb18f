"""Install what each page of the docs says, alone in a fresh environment, and do what the page is about.

python tools/try_extras.py [PAGE …]

Then the same without each of the extras: one that is not missed is not needed. It asks the package index.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SECONDS: Final = 60.0
INSTALL: Final = re.compile(r"pip install '(?:asgi-hotpath|[./\w-]*)\[([a-z0-9,]+)\]'((?: [a-z]+)*)")

SITE: Final = """
from hotpath import Hotpath, HotpathMiddleware

hot = Hotpath("var/hot")


@hot.route("/x")
def x():
    return {"x": 1}


async def inner(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"cold"})


app = HotpathMiddleware(inner, hot=hot)
"""
DJANGO: Final = """
import django
from django.conf import settings

settings.configure(INSTALLED_APPS=["hotpath.contrib.django"])
django.setup()
from django.core.management import get_commands

assert "hotpath" in get_commands()
"""
BUILD: Final = "hotpath build site1:hot"
SERVE: Final = "hotpath serve site1:app --port {port} -> /cold"
FASTAPI: Final = "python -c 'import fastapi'"
VALKEY: Final = "from hotpath.caching import Valkey; Valkey('redis://127.0.0.1:1/0', prefix='x')"
ORIGIN: Final = "from hotpath.store.origin import Origin; Origin('s3://bucket/site')"
HINTS: Final = "from hotpath.store.origin.hints import Hints; Hints('redis://127.0.0.1:1/0')"
ALERTS: Final = (
    "from hotpath.ops.alerts.environment import alerts_from_environment;"
    " assert alerts_from_environment({'HOTPATH_ALERT_APPRISE': 'json://127.0.0.1:1/'})"
)
# What each page with such a line is about: commands in the environment. One with {port} serves, and is asked for the
# path behind its arrow; behind that of others are the exit codes. Where a page has several lines, the extra behind its
# name says which.
PAGES: Final = {
    "README.md": [BUILD, SERVE, FASTAPI],
    "docs/tutorial.md": [BUILD, "hotpath status site1:hot", "uvicorn site1:app --port {port} -> /x", FASTAPI],
    "docs/how-to/alerts.md": [f"python -c {shlex.quote(ALERTS)}"],
    "docs/how-to/first-ten-minutes.md": [BUILD, "uvicorn site1:app --port {port} -> /x", FASTAPI],
    "docs/how-to/first-ten-minutes.md django": ["python django_site.py", "uvicorn site1:app --port {port} -> /cold"],
    "docs/how-to/serve.md": [BUILD, SERVE],
    "docs/how-to/rehearse-the-outage.md": [BUILD, "hotpath rehearse site1:app --memory 256MiB --seconds 5s -> 0,2"],
    "docs/how-to/share-cached-values.md": [f"python -c {shlex.quote(VALKEY)}"],
    "docs/how-to/status-page.md": [BUILD, "hotpath dashboard var/hot --port {port} -> /"],
    "docs/how-to/vps-2gb.md": [BUILD, SERVE, FASTAPI],
    "docs/how-to/three-machines.md s3": [BUILD, SERVE, f"python -c {shlex.quote(ORIGIN)}"],
    "docs/how-to/three-machines.md redis": [f"python -c {shlex.quote(HINTS)}"],
    "docs/reference/declaring.md s3": [f"python -c {shlex.quote(ORIGIN)}"],
    "docs/reference/declaring.md redis": [f"python -c {shlex.quote(HINTS)}"],
    "docs/reference/front.md": [BUILD, "hotpath front var/hot --to http://127.0.0.1:1 --port {port} -> /x"],
}


def lines_of(page: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Extras and further packages of each install line of a page, each once."""
    found = INSTALL.findall((ROOT / page).read_text("utf-8"))
    return list(dict.fromkeys((tuple(extras.split(",")), tuple(more.split())) for extras, more in found))


def is_right(extras: tuple[str, ...], more: tuple[str, ...], commands: list[str]) -> str | None:
    """``None``, or what went wrong."""
    with tempfile.TemporaryDirectory(prefix="hotpath-extras-") as directory:
        place = Path(directory)
        subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
        what = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
        python = str(place / "venv/bin/python")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", what, *more]
        subprocess.run(pip, check=True)
        (place / "site1.py").write_text(SITE)
        (place / "django_site.py").write_text(DJANGO)
        return next((problem for command in commands if (problem := problem_of(command, place)) is not None), None)


def problem_of(command: str, place: Path) -> str | None:
    """Run one command in ``place``; ``None`` where it does what it should."""
    command, _, expected = command.partition(" -> ")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = shlex.split(command.replace("{port}", str(port)))
    program = place / "venv/bin" / words[0]
    if not program.exists():
        return f"{words[0]} is not there"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HOTPATH_"))}
    log = (place / "log").open("w+")
    with log, subprocess.Popen([program, *words[1:]], cwd=place, env=kept, stdout=log, stderr=log) as process:
        try:
            if "{port}" in command:
                return None if answers(process, port, expected) else last_line(place)
            codes = {int(code) for code in expected.split(",")} if expected else {0}
            return None if process.wait(SECONDS) in codes else last_line(place)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(SECONDS)
                process.kill()


def answers(process: subprocess.Popen[bytes], port: int, path: str) -> bool:
    """Whether the server answers 200 before it ends or its time is up."""
    until = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < until:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer,
        ):
            return bool(answer.status == 200)
        time.sleep(0.1)
    return False


def last_line(place: Path) -> str:
    """What a command printed last."""
    return ((place / "log").read_text(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]


def main(pages: list[str]) -> int:
    """Print a line for each install line and each extra; 1 where a line is wrong."""
    wrong = 0
    for name, commands in PAGES.items():
        page, _, needle = name.partition(" ")
        needles = {other.partition(" ")[2] for other in PAGES if other.startswith(f"{page} ")}
        if pages and page not in pages:
            continue
        for extras, more in lines_of(page):
            if needle not in extras if needle else needles & {*extras}:
                continue
            problem = is_right(extras, more, commands)
            unneeded = [
                extra
                for extra in extras
                if problem is None and is_right(tuple(e for e in extras if e != extra), more, commands) is None
            ]
            verdict = problem or (f"not needed: {', '.join(unneeded)}" if unneeded else "right")
            wrong += verdict != "right"
            print(f"{page}: [{','.join(extras)}] {' '.join(more)}: {verdict}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
