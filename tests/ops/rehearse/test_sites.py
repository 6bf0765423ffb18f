"""Rehearsals of other sites than the FastAPI example, which `make proof` rehearses: Django, and one of a real log."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.guard.groups import needs_groups

pytestmark = [pytest.mark.slow, needs_groups]

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
REAL_LOG = ROOT.parent / "shared" / "data" / "access.log.gz"
HOTPATH = (sys.executable, "-m", "hotpath")


def run(command: list[str], directory: Path, environ: Mapping[str, str]) -> str:
    ended = subprocess.run(
        command, cwd=directory, env={**os.environ, **environ}, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def rehearsed(app: str, directory: Path, environ: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    options = ("--memory", "256MiB", "--days", "1", "--seconds", "12s", "--fault", "leak@12h", "--at-once", "--json")
    facts: dict[str, Any] = json.loads(run([*HOTPATH, "rehearse", app, *options, *arguments], directory, environ))
    return facts


def check(facts: dict[str, Any]) -> None:
    alone, _, front = facts["runs"]
    assert facts["problem"] is None
    assert alone["oom_kills"] >= facts["faults"]["leak"] == 2
    assert alone["all"]["errors"] > 0
    assert front["hot"]["errors"] == 0
    assert front["hot"]["requests"] > 50


def test_the_django_example(tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(ROOT / "examples" / "django_app", site, ignore=shutil.ignore_patterns("var", "*.sqlite3"))
    for command in (["migrate", "-v0"], ["make_data"], ["hotpath", "build"]):
        run([sys.executable, "manage.py", *command], site, {})
    facts = rehearsed("mysite.asgi:application", site, {}, "--requests", "600")
    check(facts)
    assert facts["source"].startswith("the manifest, no log: 9 hot pages")


@pytest.mark.skipif(not REAL_LOG.exists(), reason=f"{REAL_LOG.name} is not in ../shared/data")
def test_a_site_with_a_real_log(tmp_path: Path) -> None:
    environ = {"LOG_SITE_LOG": str(REAL_LOG), "LOG_SITE_STORE": str(tmp_path / "hot")}
    run([*HOTPATH, "build", "log_site:hot"], HERE, environ)
    facts = rehearsed("log_site:app", HERE, environ, "--log", str(REAL_LOG), "--requests", "600")
    check(facts)
    assert "608 requests of crawlers in 41.0 h" in facts["source"]
    assert facts["notes"] == ["1 requests for other hosts are left out"]
