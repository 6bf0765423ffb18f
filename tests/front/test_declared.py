"""What a short-lived process says of a site's declaration is what the site declares."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from hotpath import Hotpath
from hotpath.errors import AppBroken, TargetError
from hotpath.front.declared import ask

SITE = """
from hotpath import Hotpath, HotpathMiddleware
hot = Hotpath("var/hot", refresh=0.5, max_body_bytes="3MiB", redirect_slashes=True, generation_header=False,
              headers={"X-Site": "é"}, hosts=["example.org", "*.example.net"], ignore_query=["ref", "src_*"],
              cdn_cache_control=None, origin="s3://bucket/site", hints="redis://:p@ss@host/0")
hot.directory("/indices/{name}", "data/{name}.json", headers={"A": "b"}, fold_case=True, lifetime="2h")
async def inner(scope, receive, send): ...
"""
WRAPPED = "app = HotpathMiddleware(inner, hot=hot)\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "asked.py"


def declared_here(site: Path) -> Hotpath:
    namespace: dict[str, object] = {}
    exec(site.read_text(), namespace)
    hot = namespace["hot"]
    assert isinstance(hot, Hotpath)
    return hot


@pytest.mark.parametrize("target", ["asked:app", "asked:hot", "asked:inner"])
def test_every_option_that_a_reader_needs_arrives(site: Path, target: str) -> None:
    site.write_text(SITE + WRAPPED)
    hot, same = ask(target), declared_here(site)
    assert hot.reading == same.reading
    assert hot.directories == same.directories
    assert hot.sharing == same.sharing
    assert hot.sharing.hints is not None
    assert hot.store.root == same.store.root.absolute()


def test_the_site_is_not_imported_here(site: Path) -> None:
    site.write_text(f"import os\nopen('pids', 'a').write(str(os.getpid()))\n{SITE}{WRAPPED}")
    ask("asked:app")
    assert int(Path("pids").read_text()) != os.getpid()


def test_what_an_import_prints_is_no_answer(site: Path) -> None:
    site.write_text(f"print('{{}}'); import sys; sys.stderr.write('x' * 200000)\n{SITE}{WRAPPED}")
    assert ask("asked:app").reading.refresh_seconds == 0.5


def test_an_import_that_fails_shows_the_end_of_its_traceback(site: Path) -> None:
    site.write_text("def deep(n):\n    return deep(n - 1) if n else 1 / 0\ndeep(50)\n")
    with pytest.raises(AppBroken) as raised:
        ask("asked:app")
    lines = str(raised.value).splitlines()
    assert lines[0] == "asked:app: it cannot be imported:"
    assert lines[-1] == "  ZeroDivisionError: division by zero"
    assert len(lines) <= 13


@pytest.mark.parametrize("kill", ["os._exit(0)", "os._exit(7)", "os.kill(os.getpid(), 9)", "sys.exit('no')"])
def test_an_import_that_ends_its_process_is_no_answer(site: Path, kill: str) -> None:
    site.write_text(f"import os, sys\n{kill}\n")
    with pytest.raises(AppBroken, match="it cannot be imported"):
        ask("asked:app")


def test_an_import_that_hangs_is_ended(site: Path) -> None:
    site.write_text("import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(100)\n")
    began = time.monotonic()
    with pytest.raises(TargetError, match="importing it took more than 2 s; write --store"):
        ask("asked:app", seconds=2)
    assert time.monotonic() - began < 6
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_text()), signal.SIGCONT)


@pytest.mark.parametrize(
    ("text", "target", "says"),
    [
        ("app = print\n", "asked:app", "no Hotpath object in its modules; write --store"),
        (SITE + "other = Hotpath('x')\n" + WRAPPED, "asked:app", "2 Hotpath objects in its modules; write --store"),
        (SITE + WRAPPED, "asked:none", 'Attribute "none" not found in module "asked"'),
        (SITE + WRAPPED, "nosuch:app", 'Could not import module "nosuch"'),
        (SITE + WRAPPED, "asked", "^asked: expected module:attribute, the app: app:app$"),
    ],
)
def test_what_cannot_be_answered_says_what_to_write(site: Path, text: str, target: str, says: str) -> None:
    site.write_text(text)
    with pytest.raises(TargetError, match=says) as raised:
        ask(target)
    assert not isinstance(raised.value, AppBroken)


STARLETTE = "from starlette.applications import Starlette\napp = Starlette()\napp.add_middleware(HotpathMiddleware, "


@pytest.mark.parametrize(
    ("made", "has_bypass"),
    [
        (WRAPPED, False),
        ("app = HotpathMiddleware(inner, hot=hot, bypass=lambda scope: True)\n", True),
        (STARLETTE + "hot=hot)\n", False),
        (STARLETTE + "hot=hot, bypass=lambda scope: True)\n", True),
        ("app = inner\n", None),
    ],
)
def test_whether_the_middleware_has_bypass_is_known_where_there_is_one(
    site: Path, made: str, has_bypass: bool | None
) -> None:
    site.write_text(SITE + made)
    assert ask("asked:app").has_bypass is has_bypass


def test_a_hotpath_object_is_no_app(site: Path) -> None:
    site.write_text(SITE + WRAPPED)
    with pytest.raises(TargetError, match=r"^asked:hot: this is a Hotpath, expected the app; write asked:app$"):
        ask("asked:hot", is_app=True)
    assert ask("asked:app", is_app=True).store.root == ask("asked:hot").store.root
