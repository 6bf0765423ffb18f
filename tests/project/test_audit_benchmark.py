"""The benchmark that counts and draws findings over a folder of packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.audit import print_projects, print_sample, run

GROWS = "SEEN = {}\n\ndef f(key):\n    SEEN[key] = work(key)\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, code in (("shop", GROWS), ("blog", "x = 1\n" * 6), ("bad", "def f(:\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "views.py").write_text(code, "utf-8")
    (tmp_path / "data").mkdir()
    return tmp_path


def test_it_counts_lines_and_findings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = print_projects(list(run(folder, [])))
    assert (figures["lines"], figures["findings"], figures["per_10000_lines"]) == (10, 1, "1000.00")
    printed = capsys.readouterr().out
    assert "growing-global 1" in printed
    assert "skipped: bad: views.py: syntax error: invalid syntax" in printed
    assert [one.name for one in run(folder, ["blog"])] == ["blog"]


def test_the_same_seed_draws_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "shop" / "more.py").write_text("".join(GROWS.replace("SEEN", f"S{n}") for n in range(30)), "utf-8")
    projects = list(run(folder, ["shop"]))
    drawn = []
    for seed in (1, 1, 2):
        print_sample(folder, projects, 5, seed, notes=False)
        drawn.append(capsys.readouterr().out)
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0].startswith("1. shop | shop/")
    assert str(folder) not in drawn[0].replace("\n", " ").split("|")[1]
