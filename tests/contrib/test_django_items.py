"""Items of a Django project begin as requests do: nothing of the item before, and no connection that is dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("django")

SETTINGS = """
from pathlib import Path
BASE_DIR = Path(__file__).parent
INSTALLED_APPS = ["hotpath.contrib.django", "site1"]
HOTPATH_STORE = BASE_DIR / "hot"
SECRET_KEY = "for a test"
USE_I18N = USE_TZ = True
DATABASES = {"default": {"ENGINE": "backend", "NAME": BASE_DIR / "data.db", "CONN_MAX_AGE": None}}
"""

# SQLite with what makes a server's connections different: they may be closed at the other end.
BACKEND = """
import sqlite3
from django.db.backends.sqlite3 import base

class DatabaseWrapper(base.DatabaseWrapper):
    def is_usable(self):
        try:
            self.connection.execute("SELECT 1")
        except sqlite3.Error:
            return False
        return True

    def terminate(self):
        sqlite3.Connection.close(self.connection)
"""

THREADS = """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
"""

Build = Callable[[str], dict[str, Any]]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """``manage.py hotpath build`` of a project with this ``hot.py``: the payloads, and the problems, by key."""
    for name, text in {
        "settings": SETTINGS,
        "backend/__init__": "",
        "backend/base": BACKEND,
        "site1/__init__": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text)

    def run(source: str) -> dict[str, Any]:
        head = "from hotpath.contrib.django import hot\nfrom django.db import connection\n"
        (tmp_path / "site1" / "hot.py").write_text(head + textwrap.dedent(source))
        command = ["-m", "django", "hotpath", "build", "--settings", "settings", "--pythonpath", "."]
        done = subprocess.run(
            [sys.executable, *command, "--max-failures", "1", "--json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
        )
        assert done.stdout, done.stderr
        files = {path.stem: json.loads(path.read_bytes()) for path in tmp_path.glob("hot/generations/*/files/*.json")}
        return files | {one["key"].strip("/"): one["problem"] for one in json.loads(done.stdout)["failures"]}

    return run


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", THREADS], ids=["forked", "fresh"])
def test_a_server_that_closes_the_connection_costs_one_item(build: Build, before: str) -> None:
    source = """
    @hot.route("/{n}", each={"n": list(range(6))})
    def page(n):
        with connection.cursor() as cursor:
            if n == 2:
                connection.terminate()
            return [cursor.execute("SELECT 7").fetchone()[0]]
    """
    build("@hot.route('/{n}', each={'n': list(range(6))})\ndef page(n):\n    return [7]\n")  # to carry forward
    pages = build(before + textwrap.dedent(source))
    assert "closed database" in pages.pop("2")
    assert pages == {str(n): [7] for n in range(6) if n != 2}


@pytest.mark.slow
def test_languages_and_time_zones_end_with_their_item(build: Build) -> None:
    source = """
    from django.utils import timezone, translation

    def use():
        seen = [translation.get_language(), timezone.get_current_timezone_name()]
        translation.activate("de")
        timezone.activate("Asia/Seoul")
        return seen

    @hot.route("/{n}", each={"n": [1, 2]})
    def page(n):
        return use()

    @hot.route("/async{n}", each={"n": [3, 4]})
    async def page2(n):
        return use()

    translation.activate("fr")
    """
    seen = ["fr", "America/Chicago"]
    assert build(source) == {"1": seen, "2": seen, "async3": seen, "async4": seen}


@pytest.mark.slow
def test_a_project_with_threads_has_fresh_interpreters(build: Build) -> None:
    source = """
    import sys

    @hot.route("/{n}", each={"n": [1]})
    def page(n):
        return [sys.flags.safe_path, pool.submit(int, 7).result()]
    """
    assert build(THREADS + textwrap.dedent(source)) == {"1": [True, 7]}


@pytest.mark.slow
def test_in_a_test_run_workers_are_forked_since_only_it_knows_its_databases(build: Build) -> None:
    source = """
    import sys
    from django.test.utils import setup_test_environment
    setup_test_environment()

    @hot.route("/{n}", each={"n": [1]})
    def page(n):
        return [sys.flags.safe_path]
    """
    assert build(THREADS + textwrap.dedent(source)) == {"1": [False]}
