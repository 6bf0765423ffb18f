"""The benchmark of a reading runs, and finds as many descriptors after many readings as before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux")
def test_it_runs(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks.guard_reading", "--rounds", "1", "--json", str(figures)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "descriptors: 0 more after 10,000 readings" in said
    found = json.loads(figures.read_text())
    assert found["microseconds"]["read()"]["median"] > found["microseconds"]["the kernel alone"]["median"] > 0
