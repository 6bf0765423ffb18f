"""The types that users see: ``right.py`` has no error, ``wrong.py`` just those it says, for mypy and for pyright."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
SECONDS = 200

MYPY = """[mypy]
strict = true
mypy_path = {source}
"""


def mypy(folder: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy")
    (cache / "mypy.ini").write_text(MYPY.format(source=SOURCE), "utf-8")
    return run(
        [sys.executable, "-m", "mypy", "--config-file", str(cache / "mypy.ini"), "--cache-dir", str(cache / "mypy")],
        ["right.py", "wrong.py"],
        folder,
    )


def pyright(folder: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("pyright")
    # It fetches itself with npm when it is run for the first time.
    if run([sys.executable, "-m", "pyright"], ["--version"], folder).returncode:
        pytest.skip("pyright cannot be run here: it needs node, and npm for its first run")
    config = (HERE / "pyrightconfig.json").read_text("utf-8").replace("../../src", str(SOURCE))
    (folder / "pyrightconfig.json").write_text(config, "utf-8")
    return run([sys.executable, "-m", "pyright", "--pythonpath", sys.executable], ["-p", str(folder)], folder)


def run(program: list[str], arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """With an end, whatever it has started: pyright is node, and fetches itself with npm. 124: it took too long."""
    command = [*program, *arguments]
    pipes = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, stdout=pipes, stderr=pipes, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate(timeout=SECONDS)
            return subprocess.CompletedProcess(command, 124, out, err)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


Check = Callable[[Path, Path], subprocess.CompletedProcess[str]]
CHECKERS = pytest.mark.parametrize("check", [mypy, pyright])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("right.py", "wrong.py"):
        shutil.copy(HERE / name, tmp_path)
    return tmp_path


@pytest.mark.slow
@CHECKERS
def test_what_is_right_passes_and_every_mistake_is_found(check: Check, folder: Path, cache: Path) -> None:
    done = check(folder, cache)
    assert done.returncode == 0, done.stdout + done.stderr


PLANTED = """
from typing import assert_type
from hotpath import cached

@cached
def plain(a: int) -> str: return ""

assert_type(plain(1), int)
plain(2)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
"""


@pytest.mark.slow
@CHECKERS
def test_a_wrong_type_and_a_mistake_that_is_none_are_found(check: Check, folder: Path, cache: Path) -> None:
    (folder / "right.py").write_text("")
    (folder / "wrong.py").write_text(PLANTED, "utf-8")
    done = check(folder, cache)
    said = [line for line in done.stdout.splitlines() if "wrong.py:" in line and " error: " in line]
    assert len(said) == 2, done.stdout + done.stderr
    assert ":8" in said[0]
    assert ":9" in said[1]
    assert "nused" in said[1] or "Unnecessary" in said[1]
