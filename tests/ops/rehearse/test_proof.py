"""``make proof`` in its short form: the goals of the README's table hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guard.groups import needs_groups

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@needs_groups
def test_the_short_proof_reaches_its_goals(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.proof", "--short", "--to", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("  reached") == 6
    facts = json.loads((tmp_path / "proof.json").read_text("utf-8"))
    assert facts["runs"][2]["hot"]["errors"] == 0
    assert (tmp_path / "proof.html").stat().st_size > 10_000
