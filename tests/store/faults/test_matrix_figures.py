"""The figures of the matrix in the documents are what its tests counted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.store.crash.planted import PLANTS
from tools import store_matrix as matrix

REPORT = """<testsuites><testsuite>
<testcase classname="tests.store.crash.test_kill" name="test_a_command_killed_leaves_the_store_whole[unpin]" time="1.5">
<properties><property name="cases" value="1234"/></properties></testcase>
<testcase classname="tests.store.crash.test_kill" name="test_x" time="0.5"><failure/></testcase>
<testcase classname="tests.store.crash.test_swaps" name="test_x" time="12.3">
<properties><property name="server" value="22 descriptors"/></properties></testcase>
<testcase classname="tests.test_something_else" name="test_x" time="99"/>
{others}
</testsuite></testsuites>"""

OTHERS = {
    "1 + 2": "crash.test_power_loss.test_a_kill_and_then_a_power_loss",
    "2": "crash.test_power_loss.test_a_power_loss_at_any_operation",
    "3": "crash.test_power_loss.test_a_power_loss_that_drops_and_keeps_by_chance",
    "5": "crash.test_errors.test_x",
    "16": "store.test_quarantine.test_x",
    "any": "faults.test_any_order.test_x",
    "files": "serving.test_watched_rewrites.test_x",
    "bugs": "crash.test_planted.test_x",
    **{str(number): f"faults.test_row_{number:02}_x.test_x" for number in (4, 6, 7, 8, 9, 10, 12, 13, 14, 15)},
}


def report(path: Path, *, without: str = "") -> Path:
    names = [name.rpartition(".") for row, name in OTHERS.items() if row != without]
    lines = [
        f'<testcase classname="tests.{module}" name="{name}" time="1"><skipped/></testcase>'
        for module, _, name in names
    ]
    path.write_text(REPORT.format(others="\n".join(lines)), "utf-8")
    return path


def test_the_table_is_rewritten_with_what_the_tests_counted(tmp_path: Path) -> None:
    rows = matrix.by_row(matrix.read(report(tmp_path / "report.xml")))
    text = matrix.rewritten(matrix.DOCUMENT.read_text("utf-8"), rows)
    killed = next(line for line in text.splitlines() if line.startswith("| 1 | killed |"))
    assert killed.endswith("| 1,235 | 1 | 2.0 s |")
    assert "**Row 1, by command:** kills of unpin 1234." in text
    assert "**Row 11** also watches the server: 22 descriptors." in text
    assert "1 of row 14" in next(line for line in text.splitlines() if line.startswith(matrix.SKIPPED))
    assert matrix.rewritten(text, rows) == text


@pytest.mark.parametrize("row", OTHERS)
def test_a_row_without_a_test_is_no_row(tmp_path: Path, row: str) -> None:
    with pytest.raises(ValueError, match=rf"no test in the report for the rows {row.replace('+', '.')};"):
        matrix.by_row(matrix.read(report(tmp_path / "report.xml", without=row)))


def test_each_row_has_tests_in_the_tree() -> None:
    tests = Path(__file__).parents[2]
    names = [
        f"tests.{'.'.join(path.relative_to(tests).with_suffix('').parts)}.{name}"
        for path in tests.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    ]
    rows = matrix.by_row([matrix.Case(name, 1.0, failed=False, skipped=False, counts={}) for name in names])
    assert any("process.test_fork" in case.name for case in rows["16"])


def test_every_planted_bug_is_in_the_document() -> None:
    text = matrix.DOCUMENT.read_text("utf-8").partition("## Planted bugs")[2].partition("## ")[0]
    assert len([line for line in text.splitlines() if line.startswith("| ")]) == 1 + len(PLANTS)
