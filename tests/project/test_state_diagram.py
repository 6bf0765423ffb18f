"""The diagram in docs/explanation/guard.md is drawn from the table in guard/states.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "state_diagram.py"


def test_the_diagram_is_drawn_from_the_table() -> None:
    checked = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stderr
