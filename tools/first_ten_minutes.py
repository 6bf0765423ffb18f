"""The first ten minutes of a new user, from an empty directory with the built wheel, with the time of each step.

    python tools/first_ten_minutes.py            FastAPI and Django
    python tools/first_ten_minutes.py django     only that

Writes the files that docs/how-to/first-ten-minutes.md shows, runs its commands, and stops at the first that does not do
what it says. Needs an index to install from; traffic is to this machine only.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 300

PAGE = ROOT / "docs/how-to/first-ten-minutes.md"


def files() -> dict[str, str]:
    """The Python files of the page, by the name that stands above each."""
    found = re.findall(r"`([\w/]+\.py)`:\n\n(?:<!--.*?-->\n)?```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return dict(found)


@dataclass
class Path10:
    """One way: a directory, its virtual environment, and the steps with their seconds."""

    name: str
    folder: Path
    steps: list[tuple[str, float]] = field(default_factory=list)

    @property
    def bin(self) -> Path:
        return self.folder / ".venv/bin"

    def step(self, what: str, action: Callable[[], object]) -> None:
        started = time.perf_counter()
        action()
        self.steps.append((what, time.perf_counter() - started))
        print(f"  {self.steps[-1][1]:6.1f} s  {what}", flush=True)

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder,
            env={**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def install(self, wheel: Path, extras: str, *others: str) -> None:
        subprocess.run([sys.executable, "-m", "venv", str(self.folder / ".venv")], check=True)
        self.run("pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[{extras}]", *others)

    def serve_and_break(self, target: str) -> None:
        """Hot pages are 200, the app's own page is a 500, with one server."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = subprocess.Popen(
            [str(self.bin / "uvicorn"), target, "--port", str(port), "--log-level", "warning"],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            hot = answer(port, "/rankings/kospi", until=time.monotonic() + 60)
            cold = answer(port, "/stocks/X")
        finally:
            server.terminate()
            server.wait(30)
        if (hot, cold) != (200, 500):
            sys.exit(f"expected a hot 200 and a cold 500, found {hot} and {cold}")


def answer(port: int, path: str, until: float = 0.0) -> int:
    """The status of a GET; tried again ``until`` the server is up."""
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as found:
                # Without this field the app answered, and the page is not hot.
                return int(found.status) if found.headers["cache-status"] else 0
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def fastapi(way: Path10, wheel: Path) -> None:
    way.step("a virtual environment, pip install", lambda: way.install(wheel, "cli,server", "fastapi"))
    way.step("write app.py", lambda: way.write("app.py", files()["app.py"]))
    way.step("hotpath build app:hot", lambda: way.run("hotpath", "build", "app:hot"))
    way.step("uvicorn app:app; /rankings/kospi is 200 while the app fails", lambda: way.serve_and_break("app:app"))
    way.step(
        "hotpath explain app:hot /rankings/kospi", lambda: way.run("hotpath", "explain", "app:hot", "/rankings/kospi")
    )


def django(way: Path10, wheel: Path) -> None:
    way.step("a virtual environment, pip install", lambda: way.install(wheel, "django,server"))
    way.step("django-admin startproject", lambda: way.run("django-admin", "startproject", "site1", "."))

    def declare() -> None:
        settings = way.folder / "site1/settings.py"
        text = settings.read_text("utf-8").replace(
            "INSTALLED_APPS = [", 'INSTALLED_APPS = [\n    "hotpath.contrib.django",\n    "site1",', 1
        )
        settings.write_text(text + '\nHOTPATH_STORE = BASE_DIR / "var/hot"\n', "utf-8")
        for name in ("site1/hot.py", "site1/urls.py", "site1/asgi.py"):
            way.write(name, files()[name])

    way.step("three lines of settings, hot.py, urls.py, asgi.py", declare)
    way.step("manage.py check", lambda: way.run("python", "manage.py", "check"))
    way.step("manage.py hotpath build", lambda: way.run("python", "manage.py", "hotpath", "build"))
    way.step(
        "uvicorn site1.asgi:application; /rankings/kospi is 200 while the app fails",
        lambda: way.serve_and_break("site1.asgi:application"),
    )


def main() -> None:
    """Build the wheel, then go each way."""
    ways = {"fastapi": fastapi, "django": django}
    wanted = sys.argv[1:] or list(ways)
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        (wheel,) = Path(directory).glob("*.whl")
        for name in wanted:
            print(name)
            way = Path10(name, Path(directory, name))
            way.folder.mkdir()
            ways[name](way, wheel)
            print(f"  {sum(seconds for _, seconds in way.steps):6.1f} s  in all")


if __name__ == "__main__":
    main()
