"""A rotation that logrotate takes, and does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hotpath.ops.render.files import write
from hotpath.ops.render.logrotate import render
from tests.ops.render.conftest import MakeFacts

LOGROTATE = shutil.which("logrotate", path="/usr/sbin:/usr/bin")
needs_logrotate = pytest.mark.skipif(LOGROTATE is None, reason="needs logrotate: apt-get install logrotate")


def run(*options: str, root: Path) -> subprocess.CompletedProcess[str]:
    """In a mount namespace whose /var/log is below ``root``: the file names the real place."""
    command = f'mount --bind "{root}/log" /var/log && exec {LOGROTATE} --state "{root}/state" {" ".join(options)} "$0"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, str(root / "etc/logrotate.d/site")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@needs_logrotate
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root and a mount namespace")
@pytest.mark.slow
def test_logrotate_takes_it_and_rotates(make_facts: MakeFacts, tmp_path: Path) -> None:
    write(render(make_facts()), tmp_path)
    log = tmp_path / "log" / "site" / "memory.log"
    log.parent.mkdir(parents=True)
    log.write_text("a line\n")
    trial = run("--debug", root=tmp_path)
    assert trial.returncode == 0
    assert "considering log /var/log/site/memory.log" in trial.stderr
    assert "error" not in trial.stderr
    assert log.read_text() == "a line\n"
    assert run("--force", root=tmp_path).returncode == 0
    assert log.read_text() == ""
    assert (log.parent / "memory.log.1").read_text() == "a line\n"
    assert log.stat().st_mode & 0o777 == 0o640
    log.write_text("another\n")
    assert run("--force", root=tmp_path).returncode == 0
    assert sorted(path.name for path in log.parent.iterdir()) == ["memory.log", "memory.log.1", "memory.log.2.gz"]


def test_it_is_the_file_that_cron_writes(make_facts: MakeFacts) -> None:
    (file,) = render(make_facts(name="shop"))
    assert "\n/var/log/shop/*.log {\n" in file.text
