"""What the units run, run: the very command lines, with systemd's own socket activation in place of its manager."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from hotpath.ops.render.facts import SiteFacts, gather
from hotpath.ops.render.systemd import render
from tests.ops.local import closed_port
from tests.ops.render.conftest import shop

ACTIVATE = shutil.which("systemd-socket-activate")
APP = """
from tests.ops.render.conftest import shop

hot = shop("var/hot")


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"cold"})
"""


def command(facts: SiteFacts, unit: str) -> list[str]:
    (file,) = (file for file in render(facts) if file.path.endswith(f"/{unit}"))
    (line,) = re.findall(r"^ExecStart=(.*)$", file.text, re.MULTILINE)
    return shlex.split(line)


def text_of(url: str, seconds: float = 30.0) -> str:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
        assert time.monotonic() < deadline, f"{url} gave no answer"
        time.sleep(0.1)


@pytest.mark.skipif(ACTIVATE is None, reason="needs systemd-socket-activate: apt-get install systemd")
@pytest.mark.slow
def test_the_batch_the_site_and_the_check_run_as_they_are_rendered(tmp_path: Path, short_directory: Path) -> None:
    (tmp_path / "myshop.py").write_text(APP)
    hot, port = shop(tmp_path / "var" / "hot"), closed_port()
    facts = gather(
        hot,
        "myshop:hot",
        directory=tmp_path,
        hotpath=str(Path(sys.executable).parent / "hotpath"),
        user="site",
        port=port,
        admin=f"127.0.0.1:{closed_port()}",
        base_url=f"http://127.0.0.1:{port}",
    )
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "HOTPATH_RUN": str(short_directory),
    }

    def run(unit: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(facts, unit), cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False
        )

    built = run("myshop-build.service")
    assert (built.returncode, built.stdout) == (0, ""), built.stderr
    activation = [str(ACTIVATE), f"--listen=127.0.0.1:{port}"]
    passed = [f"--setenv={name}" for name in environ]
    site = subprocess.Popen(
        [*activation, *passed, *command(facts, "myshop.service")],
        cwd=tmp_path, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert text_of(f"http://127.0.0.1:{port}/about") == "<p>about"
        assert text_of(f"http://127.0.0.1:{port}/anything") == "cold"
        assert text_of(f"http://{facts.admin}/readyz")
        checked = run("myshop-check.service")
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    finally:
        site.send_signal(signal.SIGTERM)
        site.wait(60)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/about", timeout=5)
    assert run("myshop-check.service").returncode == 69
