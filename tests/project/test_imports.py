"""What importing and using a part of hotpath loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

READ_SIDE = ("hotpath.serving", "hotpath.asgi")
NEVER_WITH_THE_ROOT = set("apprise brotli click django fastapi prometheus_client rich starlette zstandard".split())


def loaded_by(code: str, cwd: Path | None = None) -> set[str]:
    """The modules that a new process has loaded when ``code`` ends."""
    printing = f"import sys\n{code}\nprint('LOADED', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", printing], cwd=cwd, capture_output=True, text=True, check=True, timeout=60
    )
    return {*done.stdout.rpartition("LOADED ")[2].split()}


@pytest.mark.parametrize("code", ["import hotpath", "from hotpath import *", "import hotpath.asgi"])
def test_importing_hotpath_brings_in_no_framework_no_command_and_no_extra(code: str) -> None:
    assert NEVER_WITH_THE_ROOT.isdisjoint(loaded_by(code))


def test_declaring_and_building_load_no_read_side(tmp_path: Path) -> None:
    code = """
import hotpath.batch, hotpath.site
hot = hotpath.site.Hotpath("hot")
hot.route("/a")(lambda: [1])
hot.directory("/live/{name}", "live/{name}.json")
hotpath.batch.build(hot)
"""
    assert not {module for module in loaded_by(code, cwd=tmp_path) if module.startswith(READ_SIDE)}


def test_a_front_without_a_status_page_loads_neither_the_batch_nor_what_operators_do() -> None:
    loaded = loaded_by("import hotpath.front.run")
    assert not {module for module in loaded if module.startswith(("hotpath.batch", "hotpath.ops", "hotpath.dashboard"))}


def test_a_worker_that_may_follow_loads_no_object_storage_before_it_does() -> None:
    code = """
from hotpath import Hotpath, HotpathMiddleware
async def app(scope, receive, send): ...
hot = Hotpath("hot", origin="s3://bucket/site", hints="redis://127.0.0.1/0")
HotpathMiddleware(app, hot=hot, follow=True)
"""
    loaded = loaded_by(code)
    assert not {module for module in loaded if module.partition(".")[0] in ("obstore", "redis")}
    assert not loaded_by("from hotpath import Hotpath\nHotpath('hot')") & {"hotpath.store.origin", "obstore", "redis"}


COMMANDS = [
    "build site_of:hot",
    "status site_of:hot",
    "verify site_of:hot",
    "rollback hot --reason test",
    "pin hot 1",
    "unpin hot",
    "prune hot",
]


def test_commands_load_no_read_side(tmp_path: Path) -> None:
    (tmp_path / "site_of.py").write_text(
        "from hotpath import Hotpath\nhot = Hotpath('hot')\nhot.route('/a')(lambda: [1])\n", "utf-8"
    )
    code = f"""
from hotpath.batch import build
from hotpath.cli.commands import main
sys.path.insert(0, "")
from site_of import hot
build(hot)
for command in {COMMANDS}:
    main(command.split(), standalone_mode=False)
"""
    assert not {module for module in loaded_by(code, cwd=tmp_path) if module.startswith(READ_SIDE)}
