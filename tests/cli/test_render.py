"""``hotpath render`` prints, writes and compares; ``hotpath init`` asks, writes a set, and overwrites nobody's work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hotpath.ops.render.whats import WHATS

SHOP = """
from hotpath import Hotpath

hot = Hotpath("var/hot")


@hot.route("/about", media_type="text/html")
def about():
    return "<p>about"


async def app(scope, receive, send): ...
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    run(tmp_path, "build", "shop:hot")
    return tmp_path


def run(project: Path, *words: str, code: int = 0, answers: str | None = None) -> str:
    environ = {**os.environ, "PYTHONPATH": str(project)}
    done = subprocess.run(
        [sys.executable, "-m", "hotpath", *words],
        cwd=project, env=environ, input=answers, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("what", sorted(WHATS))
def test_twice_is_the_same_and_what_is_installed_is_compared(project: Path, what: str) -> None:
    words = ("render", what, "shop:hot", "--user", "site")
    assert " written\n" in run(project, *words, "--to", "out")
    assert " written\n" not in run(project, *words, "--to", "out")
    (first, *_) = [path for path in (project / "out").rglob("*") if path.is_file()]
    first.write_text(first.read_text() + "x\n")
    printed = run(project, *words, "--check", "out", code=1)
    assert printed.startswith(f"{first.relative_to(project)} differs\n")
    assert "    -x\n" in printed


@pytest.mark.slow
def test_the_head_has_the_command_and_not_where_it_goes(project: Path) -> None:
    run(project, "render", "logrotate", "shop:hot", "--name", "my-shop", "--to", "out")
    head = (project / "out/etc/logrotate.d/my-shop").read_text().splitlines()[0]
    assert head.startswith("# Made by 'hotpath render logrotate shop:hot --name my-shop': ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("nothing", "shop:hot"), "'nothing' is none of: caddy, cron, "),
        (("cron", "shop:hot", "--to", "a", "--check", "b"), "--to writes, and --check compares"),
        (("systemd", "shop:hot", "--two-units", "--no-front"), "give one of them"),
        (("systemd", "no-such-store"), "there is no such directory"),
        (("systemd", "shop:hot", "--batch-time", "2:30"), "--batch-time '2:30': write a time of day, as 02:30"),
        (("cron", "shop:hot", "--to", "shop.py/x"), "--to names a directory to write to"),
    ],
)
def test_mistakes_are_said_in_a_line(project: Path, words: tuple[str, ...], problem: str) -> None:
    assert problem in run(project, "render", *words, code=2)


@pytest.mark.slow
def test_init_asks_and_a_second_run_asks_nothing_new(project: Path) -> None:
    printed = run(project, "init", answers="shop:hot\nhttps://shop.example.org\n2GiB\n03:15\nme@example.org\n")
    written = {path.relative_to(project / "deploy").as_posix() for path in (project / "deploy").rglob("*.*")}
    assert {"etc/systemd/system/shop.service", "etc/systemd/system/shop-build.timer", "shop.env"} <= written
    service = (project / "deploy/etc/systemd/system/shop.service").read_text()
    assert "--memory 900MiB" in service
    assert "MemoryMax=500M" in (project / "deploy/etc/systemd/system/shop-build.service").read_text()
    assert "OnCalendar=*-*-* 03:15:00" in (project / "deploy/etc/systemd/system/shop-build.timer").read_text()
    assert (project / "deploy/shop.env").stat().st_mode & 0o777 == 0o600
    assert "systemctl enable --now shop.socket shop.service shop-check.timer shop-build.timer\n" in printed
    assert "deploy: everything is as it was\n" in run(project, "init", "--yes")
    # What its files say of themselves is true: the same command compares them.
    command = service.split("'", 2)[1].split()[1:]
    compared = run(project, *command, "--check", "deploy").splitlines()
    assert "deploy/etc/systemd/system/shop.service is as rendered" in compared
    assert all(line.endswith(" is as rendered") for line in compared)


@pytest.mark.slow
def test_init_overwrites_no_work_of_others(project: Path) -> None:
    options = ("init", "shop:hot", "--yes")
    run(project, *options)
    changed = project / "deploy/etc/systemd/system/shop.service"
    changed.write_text(changed.read_text() + "# mine\n")
    assert f"{changed.relative_to(project)} kept as you changed it" in run(project, *options)
    other = project / "deploy/etc/systemd/system/shop-build.service"
    before = other.read_text()
    assert "--force writes over them" in run(project, *options, "--machine-memory", "4GiB", code=1)
    assert changed.read_text().endswith("# mine\n")
    assert other.read_text() == before
    run(project, *options, "--machine-memory", "4GiB", "--force")
    assert "# mine" not in changed.read_text()
    assert "--memory 1800MiB" in changed.read_text()
    assert json.loads((project / "deploy/hotpath-init.json").read_text())["answers"]["machine_memory"] == "4GiB"


@pytest.mark.slow
def test_init_overwrites_no_file_that_it_has_not_written(project: Path) -> None:
    theirs = project / "deploy" / "shop.env"
    theirs.parent.mkdir()
    theirs.write_text("SECRET=1\n")
    assert "deploy/shop.env" in run(project, "init", "shop:hot", "--yes", code=1)
    assert theirs.read_text() == "SECRET=1\n"
    assert [path.name for path in theirs.parent.iterdir()] == ["shop.env"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--yes",), "which site? write 'hotpath init myapp:hot'"),
        (("shop:hot", "--yes", "--machine-memory", "256MiB"), "need 512MiB or more"),
        (("shop:hot", "--yes", "--base-url", "example.org"), "--base-url"),
    ],
)
def test_init_says_what_it_cannot_work_with(project: Path, words: tuple[str, ...], problem: str) -> None:
    assert problem in run(project, "init", *words, code=2)
    assert not (project / "deploy").exists()
