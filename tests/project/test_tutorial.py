"""The tutorial as a new user plays it: its files are written, its commands run in order, what it shows is printed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.project.test_docs import Block, split

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
SECONDS = 30.0

# The environment is that of the tests already.
NOT_RUN = ("python3 -m venv", "pip install")
PORT = "8000"


@dataclass
class Player:
    """A directory, and the server that runs in it."""

    folder: Path
    port: int
    server: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def serve(self, command: str) -> None:
        self.stop()
        with (self.folder.parent / "server.log").open("ab") as log:
            words = [sys.executable, "-m", *command.split(), "--port", str(self.port)]
            self.server = subprocess.Popen(words, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.server.poll() is None, (self.folder.parent / "server.log").read_text()
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.02)

    def stop(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGINT)  # Ctrl-C
            self.server.wait(SECONDS)
            self.server = None

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["/bin/bash", "-c", command.replace(PORT, str(self.port))],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        return done.stdout.rstrip("\n")


@pytest.fixture
def player(tmp_path: Path) -> Iterator[Player]:
    for needed in ("fastapi", "uvicorn"):
        pytest.importorskip(needed)
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "site"
    folder.mkdir()
    scripts = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",  # a file of this second is not taken for the one before
    }
    made = Player(folder, port, environment=environment)
    yield made
    made.stop()


def steps(text: str) -> Iterator[tuple[Block, str | None]]:
    """Each block with the file that the words above it name."""
    lines = text.splitlines()
    for block in split(text)[0]:
        above = " ".join(lines[max(0, block.line - 4) : block.line - 2])
        found = re.search(r"`([\w.]+\.py)`(?: now)?:\s*$", above)
        yield block, found[1] if found else None


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Each command with what the tutorial says it prints."""
    command, printed = "", list[str]()
    for line in block.lines:
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(printed)
            command, printed = line.removeprefix("$ "), []
        else:
            printed.append(line)
    if command:
        yield command, "\n".join(printed)


def matches(printed: str, shown: str) -> bool:
    """``…`` stands for anything in a line."""
    return re.fullmatch(re.escape(shown).replace("…", ".*"), printed) is not None


def play(text: str, player: Player) -> list[str]:
    """Plays all of it; the commands that were run."""
    played = []
    for block, file in steps(text):
        if block.language == "python":
            assert file, f"line {block.line}: no file is named above this block"
            (player.folder / file).write_text("\n".join(block.lines) + "\n", "utf-8")
        elif block.language == "console":
            for command, shown in commands(block):
                if command.startswith(NOT_RUN):
                    continue
                played.append(command)
                if command.startswith("uvicorn "):
                    player.serve(command)
                    continue
                # Where a person waits, a test asks until it is so.
                deadline = time.monotonic() + (SECONDS if command.startswith("sleep ") else 0)
                asked = re.sub(r"^sleep \d+ && ", "", command)
                while not matches(printed := player.run(asked), shown):
                    assert time.monotonic() < deadline, f"$ {command}\n{printed}\n--- and the tutorial says:\n{shown}"
                    time.sleep(0.1)
    return played


@pytest.mark.slow
def test_the_tutorial_goes_as_it_says(player: Player) -> None:
    text = TUTORIAL.read_text("utf-8")
    played = play(text, player)
    assert sum(command.startswith("curl ") for command in played) >= 4
    assert text.index("Internal Server Error") < text.index("hotpath build app:hot"), "it begins with a failing app"


@pytest.mark.slow
def test_a_tutorial_that_says_something_else_is_found(player: Player) -> None:
    with pytest.raises(AssertionError, match=r"the tutorial says:\n +there"):
        play("```console\n$ echo here\nthere\n```\n", player)
    with pytest.raises(AssertionError, match="no file is named"):
        play("Code:\n\n```python\nx = 1\n```\n", player)
    assert play("`a.py`:\n\n```python\nprint(3)\n```\n\n```console\n$ python a.py\n…\n```\n", player) == ["python a.py"]
