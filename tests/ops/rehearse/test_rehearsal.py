"""Whole rehearsals of a small site, with processes and real memory groups, and what cannot be rehearsed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from hotpath import Hotpath
from hotpath.cli.commands import main
from hotpath.ops.rehearse.process import LimitedGroup
from hotpath.ops.rehearse.rehearsal import RehearsalOptions, rehearse
from tests.guard.groups import needs_groups

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
STORE = "SMALL_SITE_STORE"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one generation of the small site."""
    path = tmp_path_factory.mktemp("small") / "hot"
    command = [sys.executable, "-m", "hotpath", "build", "small_site:hot"]
    subprocess.run(command, cwd=HERE, env={**os.environ, STORE: str(path)}, check=True, capture_output=True, timeout=60)
    return path


@pytest.fixture(autouse=True)
def _there(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    monkeypatch.setenv(STORE, str(store))


def rehearsed(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hotpath", "rehearse", "small_site:app", "--at-once", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def log(path: Path) -> Path:
    """Eight hot crawls and two cold ones an hour, for two days."""
    agent = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    file = path / "access.log"
    with file.open("w", encoding="ascii") as lines:
        for number in range(480):
            target = f"/hot/{number % 10}" if number % 5 else f"/cold/{number}"
            at = f"{1 + number // 240:02}/Oct/2026:{number // 10 % 24:02}:{number % 60:02}:00 +0000"
            lines.write(f'66.249.66.1 - - [{at}] "GET {target} HTTP/1.1" 200 9 "-" "{agent}"\n')
    return file


@needs_groups
def test_every_fault_strikes_and_no_hot_page_fails_behind_the_front(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    faults = [f"--fault={kind}@1d" for kind in ("leak", "kill", "block", "slow", "database")]
    ended = rehearsed(
        *("--memory", "192MiB", "--log", str(log(tmp_path)), "--days", "2", "--seconds", "40s", "--requests", "2000"),
        *(*faults, "--fault=deploy@1d", "--html", str(page), "--json"),
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    facts = json.loads(ended.stdout)
    alone, guarded, front = facts["runs"]
    assert facts["problem"] is None
    assert (facts["faults"], facts["simulated"]) == (
        {"leak": 2, "kill": 2, "block": 2, "slow": 2, "database": 2, "deploy": 2},
        None,
    )
    assert alone["oom_kills"] >= 2
    assert alone["kills"] == front["kills"] == 2
    assert alone["deaths"] >= 4
    assert alone["hot"]["errors"] > 0
    assert (front["hot"]["errors"], front["hot"]["requests"]) == (0, alone["hot"]["requests"])
    assert front["peak_bytes"] <= front["limit_bytes"]
    assert front["deaths"] >= 3
    assert guarded["all"]["requests"] == front["all"]["requests"] == 2000
    assert set(front["templates_hurt"]) <= {"/cold/{cold}"}
    assert page.read_text("utf-8").count("<svg") == 3


class NoGroups:
    """A machine where no memory group can be made."""

    problem = "no memory group for the app could be made (Permission denied)"

    def make(self, limit: int) -> LimitedGroup | None:
        return None

    def launch(self, group: LimitedGroup | None) -> list[str]:
        return []


def test_where_no_group_can_be_made_a_watcher_kills_and_that_is_said(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A directory for temporary files whose name is too long for a socket in it.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said: list[str] = []
    options = RehearsalOptions(
        app="small_site:app",
        memory_bytes=192 * 2**20,
        seconds=12,
        days=1,
        requests=600,
        faults=["leak@8h"],
        at_once=True,
    )
    made = rehearse(options, Hotpath(store), NoGroups(), knows_store=False, report=said.append)
    alone, _, front = made.runs
    assert alone.is_simulated
    assert alone.oom_kills >= 1
    assert front.record.hot.errors == 0
    assert said[0].endswith("a watcher kills at the limit instead (simulated)")
    assert "10 hot pages" in made.source
    assert "10 cold pages that they link to" in made.source
    assert made.as_dict()["simulated"] == NoGroups.problem


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["small_site:app", "--memory", "20MiB"], "--memory 20.0 MiB is too small"),
        (["small_site:app", "--memory", "75MiB"], "when it has started and the front"),
        (["small_site:app", "--memory", "900GiB"], "is more than there is"),
        (["small_site:nothing", "--memory", "192MiB"], "small_site:nothing"),
        (["no_such_site:app", "--memory", "192MiB"], "no_such_site"),
        (["small_site:app", "--memory", "192MiB", "--fault", "leek"], "--fault leek: write leak, kill"),
        (["small_site:app", "--memory", "192MiB", "--seconds", "1"], "a run takes 5 s to 1 d"),
        (["small_site:app", "--memory", "192MiB", "--serve", "--hold '1"], "No closing quotation"),
        (["small_site:app", "--memory", "192MiB", "--log", "no-such.log"], "no-such.log: No such file"),
        (
            ["small_site:app", "--memory", "192MiB", "--log", "small_site.py"],
            "no request in small_site.py can be replayed",
        ),
    ],
)
def test_what_cannot_be_rehearsed_is_one_line(arguments: list[str], why: str) -> None:
    result = CliRunner().invoke(main, ["rehearse", *arguments])
    assert result.exit_code == 2
    assert why in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_a_site_without_hot_pages_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE, str(tmp_path / "empty"))
    result = CliRunner().invoke(main, ["rehearse", "small_site:app", "--memory", "192MiB"])
    assert result.exit_code == 2
    (line,) = result.output.strip().splitlines()
    assert "no page is hot, so there is nothing that could outlive the app: " in line
    assert line.count("nothing is published") == 1
    assert "run 'hotpath build" in line


def test_a_log_without_hot_pages_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "cold.log"
    file.write_text('INFO:     127.0.0.1:1 - "GET /cold/1 HTTP/1.1" 200 OK\n')
    result = CliRunner().invoke(main, ["rehearse", "small_site:app", "--memory", "192MiB", "--log", str(file)])
    assert result.exit_code == 2
    assert "none of the 1 pages that are asked for is hot" in result.output


def test_options_that_the_front_refuses_are_known_before_the_first_run() -> None:
    result = CliRunner().invoke(main, ["rehearse", "small_site:app", "--memory", "192MiB", "--serve", "--hold never"])
    assert result.exit_code == 2
    assert "small_site:app does not start (behind the front, within 192.0 MiB):" in result.output
    assert "--hold" in result.output


def test_an_app_that_does_not_start_says_what_it_printed_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL_SITE_FAILS", "1")
    result = CliRunner().invoke(main, ["rehearse", "small_site:app", "--memory", "192MiB"])
    assert result.exit_code == 2
    assert "small_site:app does not start (the app alone, within 192.0 MiB):" in result.output
    assert "RuntimeError: no database today" in result.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_a_rehearsal_ends_all_that_it_started(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "hotpath", "rehearse", "small_site:app", "--memory", "192MiB", "--at-once"]
    short = tempfile.mkdtemp(prefix="hotpath-", dir="/tmp")
    running = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": short}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert running.stderr is not None
        while "behind the front" not in running.stderr.readline():
            assert running.poll() is None
        until = time.monotonic() + 30
        started: list[psutil.Process] = []
        while time.monotonic() < until and len(started) < 4:  # two apps, the front, and its app
            started = psutil.Process(running.pid).children(recursive=True)
            time.sleep(0.1)
        assert len(started) >= 4
        running.send_signal(number)
        running.wait(30)
        _, alive = psutil.wait_procs(started, timeout=10)
        assert alive == []
    finally:
        running.kill()
        running.communicate()
        shutil.rmtree(short)
        # Empty groups that a killed process could not take away, the innermost first.
        for group in sorted(Path("/sys/fs/cgroup").rglob(f"hotpath-app-{running.pid}-*"), reverse=True):
            for inner in [*group.glob("hotpath-app-*"), group]:
                inner.rmdir()
