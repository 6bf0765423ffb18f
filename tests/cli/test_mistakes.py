"""The likeliest mistakes of a new user: what is printed says what to write instead, and the docs show just that."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hotpath.cli.commands import main

PAGE = Path(__file__).parents[2] / "docs/how-to/when-a-page-is-not-hot.md"

GOOD = """\
from hotpath import Hotpath, HotpathMiddleware

hot = Hotpath("var/hot")

@hot.route("/top/{market}", each={"market": ["kospi", "nyse"]})
def top(market):
    return {"market": market}
"""


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@dataclass(frozen=True)
class Mistake:
    """What somebody wrote and ran, and what has to be printed; ``{here}`` is the folder it ran in."""

    name: str
    command: str
    told: str
    code: str = GOOD
    exit_code: int = 2
    first: tuple[str, ...] = ()
    folder: str = "."


MISTAKES = [
    Mistake(
        "the name of the file as TARGET",
        "build myapp.py",
        "hotpath: myapp.py: expected module:attribute; write myapp:hot",
    ),
    Mistake(
        "the app as TARGET",
        "build myapp:app",
        "hotpath: myapp:app: this is a HotpathMiddleware, expected a Hotpath object; write myapp:hot",
        GOOD + "\nasync def api(scope, receive, send): ...\n\napp = HotpathMiddleware(api, hot=hot)\n",
    ),
    Mistake("another name", "build myapp:Hot", "hotpath: myapp:Hot: myapp has no attribute 'Hot'; it has myapp:hot"),
    Mistake(
        "another folder",
        "build myap:hot",
        "hotpath: myap:hot: there is no module 'myap' in {here} or on sys.path",
    ),
    Mistake(
        "the file in another directory as TARGET",
        "build ../myapp.py:hot",
        "hotpath: ../myapp.py:hot: expected module:attribute; write myapp:hot, in the directory ..",
        folder="elsewhere",
    ),
    Mistake(
        "modules that import each other",
        "build myapp:hot",
        "hotpath: myapp:hot: importing myapp failed at {here}/myapp.py:1: ImportError: cannot import name 'hot' from "
        "partially initialized module 'myapp'",
        "from myapp import hot\n" + GOOD,
    ),
    Mistake(
        "the batch was never run",
        "explain myapp:hot /top/kospi",
        "  {here}/var/hot: nothing is published here yet; run 'hotpath build TARGET' first (a relative path "
        "counts from the "
        "working directory; Path(__file__).parent / '…' does not)",
        exit_code=1,
    ),
    Mistake(
        "the server starts in another folder than the batch",
        "status myapp:hot",
        "DEGRADED: nothing is published here yet; run 'hotpath build TARGET' first (a relative path counts from the "
        "working directory; Path(__file__).parent / '…' does not)",
        exit_code=1,
        first=("build myapp:hot",),
        folder="elsewhere",
    ),
    Mistake(
        "files in another folder",
        "explain myapp:hot /indices/kospi",
        "  no item of the current generation has this key; no file is {here}/elsewhere/indices/{{name}}.json, so the "
        "app answers '/indices/{{name}}' (a relative path counts from the working directory; "
        "Path(__file__).parent / '…' does not)",
        GOOD + '\nhot.directory("/indices/{name}", "indices/{name}.json")\n',
        exit_code=1,
        folder="elsewhere",
    ),
    Mistake(
        "the store in a home directory",
        "build myapp:hot",
        "hotpath: myapp:hot: {here}/myapp.py:3: root='~/hot' would be a directory of just this name; write "
        "Hotpath(Path('~/hot').expanduser())",
        changed('"var/hot"', '"~/hot"'),
    ),
    Mistake(
        "a variable that is not set",
        "build myapp:hot",
        "hotpath: myapp:hot: {here}/myapp.py:4: root=None is no directory; write where generations live, "
        "Hotpath('var/hot')",
        "import os\n" + changed('"var/hot"', 'os.environ.get("A_STORE_THAT_NOBODY_SET")'),
    ),
    Mistake(
        "the decorator without a path",
        "build myapp:hot",
        "hotpath: myapp:hot: {here}/myapp.py:5: @hot.route stands without a path; write @hot.route('/path')",
        changed('@hot.route("/top/{market}", each={"market": ["kospi", "nyse"]})', "@hot.route"),
    ),
    Mistake(
        "no values for a parameter",
        "build myapp:hot",
        "hotpath: myapp:hot: {here}/myapp.py:5: '/top/{{market}}' needs 'market', and each= gives nothing; "
        "write each={{'market': [...]}}",
        changed(', each={"market": ["kospi", "nyse"]}', ""),
    ),
    Mistake(
        "text where a list belongs",
        "build myapp:hot",
        "hotpath: myapp:hot: {here}/myapp.py:5: each=",
        changed('["kospi", "nyse"]', '"kospi"'),
    ),
    Mistake(
        "a parameter by another name",
        "build myapp:hot",
        "hotpath: myapp:hot: {here}/myapp.py:5: top is called with what each= gives (missing a required "
        "argument: 'name'); "
        "write def top(market)",
        changed("def top(market):", "def top(name):"),
    ),
    Mistake(
        "one path twice",
        "build myapp:hot",
        "'/top/{{other}}' is declared twice, first at {here}/myapp.py:5; remove one",
        GOOD + '\n@hot.route("/top/{other}", each={"other": ["a"]})\ndef again(other):\n    return 1\n',
    ),
    Mistake(
        "two objects with one store",
        "build myapp:other",
        "warning: '/top/{{market}}': built last time and declared no more, so the app answers; where that is not "
        "meant, is there another Hotpath object with this store? each needs a store of its own",
        GOOD + '\nother = Hotpath("var/hot")\n\n@other.route("/about")\ndef about():\n    return {"a": 1}\n',
        exit_code=0,
        first=("build myapp:hot",),
    ),
    Mistake(
        "a function of each= that is async",
        "build myapp:hot",
        "hotpath: myapp:hot: {here}/myapp.py:7: each=markets is async; write a plain function: def, not async def",
        changed('{"market": ["kospi", "nyse"]}', "markets").replace(
            "@hot", 'async def markets():\n    return [{"market": "kospi"}]\n@hot'
        ),
    ),
    Mistake(
        "a response instead of data",
        "build myapp:hot",
        "FAILED /top/kospi: the function returned a JSONResponse; return the data of the page, not a response: hotpath "
        "makes the response (media_type= and headers= of the route are for what it says)",
        "from starlette.responses import JSONResponse\n" + changed('{"market": market}', 'JSONResponse({"a": market})'),
        exit_code=1,
    ),
    Mistake(
        "what JSON does not have",
        "build myapp:hot",
        "FAILED /top/kospi: $.market is a set, which JSON does not have; sort it into a list",
        changed('{"market": market}', '{"market": {market}}'),
        exit_code=1,
    ),
    Mistake(
        "no routes, because their module was not imported",
        "build myapp:hot",
        "hotpath: no hot route is declared; write @hot.route('/path') above a function",
        'from hotpath import Hotpath\n\nhot = Hotpath("var/hot")\n',
    ),
    Mistake(
        "the path of the store where the Hotpath belongs",
        "build myapp:hot",
        "hotpath: myapp:hot: {here}/myapp.py:11: hot='var/hot': give the Hotpath object that declares the routes",
        GOOD + '\nasync def api(scope, receive, send): ...\n\napp = HotpathMiddleware(api, hot="var/hot")\n',
    ),
    Mistake(
        "a WSGI application",
        "build myapp:hot",
        "takes two arguments, as a WSGI application does; write HotpathMiddleware(a2wsgi.WSGIMiddleware(app), hot=hot)",
        GOOD + "\ndef api(environ, start_response): ...\n\napp = HotpathMiddleware(api, hot=hot)\n",
    ),
    Mistake(
        "a slash at the end",
        "explain myapp:hot /top/kospi/",
        "  no item of the current generation has this key; /top/kospi is hot, a slash at the end makes another key "
        "(redirect_slashes=True helps)",
        exit_code=1,
        first=("build myapp:hot",),
    ),
    Mistake(
        "capital letters",
        "explain myapp:hot /top/KOSPI",
        "  no item of the current generation has this key; /top/kospi is hot, keys differ by case "
        "(fold_case=True makes them one)",
        exit_code=1,
        first=("build myapp:hot",),
    ),
    Mistake(
        "a value that each= does not have",
        "explain myapp:hot /top/tokyo",
        "  no item of the current generation has this key; '/top/{{market}}' is declared and has no such "
        "item: is the value in "
        "each=, was the batch run since?",
        exit_code=1,
        first=("build myapp:hot",),
    ),
    Mistake(
        "a page whose function failed",
        "explain myapp:hot /top/nyse",
        "it failed in the last run, and the app answers for it: KeyError: 'nyse' at {here}/myapp.py:7 "
        '(return {{"market": market, "cap": {{"kospi": 1}}[market]}})',
        changed('{"market": market}', '{"market": market, "cap": {"kospi": 1}[market]}'),
        exit_code=1,
        first=("build myapp:hot --partial",),
    ),
    Mistake(
        "a route that was declared after the last build",
        "explain myapp:other /about",
        "  no item of the current generation has this key; '/about' is declared, and generation 1 was built without it"
        ": run 'hotpath build TARGET' with the Hotpath object that declares it",
        GOOD + '\nother = Hotpath("var/hot")\n\n@other.route("/about")\ndef about():\n    return {"a": 1}\n',
        exit_code=1,
        first=("build myapp:hot",),
    ),
    Mistake(
        "a path without its first slash",
        "explain myapp:hot top/kospi",
        "  a path begins with a slash; write '/top/kospi'",
        exit_code=1,
        first=("build myapp:hot",),
    ),
    Mistake(
        "a query parameter that makes another page",
        "explain myapp:hot /top/kospi?page=2",
        "  the query holds a parameter that the route does not declare with query=(…); write query=('name',) "
        "where it makes "
        "another page, or leave it out of the link",
        exit_code=1,
        first=("build myapp:hot",),
    ),
    Mistake(
        "a memory limit that is too low",
        "build myapp:hot",
        "everything would be refused from the start; write a limit well above that",
        GOOD + "\nfrom hotpath import MemoryGuard\n\nguard = MemoryGuard(limit='20MiB')\n",
    ),
    Mistake(
        "a cache without a bound",
        "build myapp:hot",
        "hotpath: myapp:hot: {here}/myapp.py:11: a cache needs a bound: write max_entries=1024, max_bytes=64 "
        "* 1024 ** 2, or both",
        GOOD + "\nfrom hotpath import LRUCache\n\npages = LRUCache(None)\n",
    ),
]


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


Command = Callable[[Path, str], Result]


@pytest.fixture
def hotpath(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs a command line in a folder, in this process; what is printed is in ``output``."""
    monkeypatch.syspath_prepend(tmp_path)

    def call(folder: Path, command: str) -> Result:
        monkeypatch.chdir(folder)
        sys.modules.pop("myapp", None)
        return CliRunner().invoke(main, command.split())

    yield call
    sys.modules.pop("myapp", None)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: one.name)
def test_what_is_printed_says_what_to_write(mistake: Mistake, tmp_path: Path, hotpath: Command) -> None:
    (tmp_path / "myapp.py").write_text(mistake.code, encoding="utf-8")
    (tmp_path / mistake.folder).mkdir(exist_ok=True)
    for command in mistake.first:
        assert hotpath(tmp_path, command).exit_code == 0
    done = hotpath(tmp_path / mistake.folder, mistake.command)
    assert mistake.told.format(here=tmp_path) in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == mistake.exit_code


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: one.name)
def test_the_page_of_mistakes_shows_it(mistake: Mistake) -> None:
    page = PAGE.read_text("utf-8")
    assert f"\n### {mistake.name[0].upper()}{mistake.name[1:]}\n" in page
    shown = mistake.told.format(here="/srv/site").strip().removeprefix("hotpath: ")
    assert shown.split("; ")[0] in page, shown


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A directory that other users may enter: pytest's are for one only."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


AS_NOBODY = """
import os, sys
import hotpath.cli.commands, hotpath.ops.explain
list(hotpath.cli.commands.main.commands.values())  # all that nobody could read
os.setgroups([])
os.setuid(65534)
hotpath.cli.commands.main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.parametrize(
    "command",
    [
        "status",
        *(name for name in ("build", "rollback", "verify", "prune", "explain")),
    ],
)
def test_a_store_of_another_user_is_an_error_of_one_line(command: str, open_folder: Path) -> None:
    folder = open_folder
    (folder / "myapp.py").write_text(GOOD, encoding="utf-8")
    assert run([sys.executable, "-m", "hotpath", "build", "myapp:hot"], folder).returncode == 0
    (folder / "var/hot").chmod(0o700)
    url = ["/top/kospi"] if command == "explain" else []
    done = run([sys.executable, "-c", AS_NOBODY, command, "myapp:hot", *url], folder)
    assert "Permission denied" in done.stdout
    assert "Traceback" not in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--front", "http://127.0.0.1:9180"], "write the page too: hotpath explain --front http://127.0.0.1:9180 /"),
        ([], "Missing argument 'TARGET|STORE'"),
        (["myapp:hot"], "Missing argument 'URL'"),
    ],
)
def test_explain_says_which_argument_is_missing(arguments: list[str], text: str) -> None:
    done = CliRunner().invoke(main, ["explain", *arguments])
    assert done.exit_code == 2
    assert text in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("load", "bare:hot", "--url", "http://127.0.0.1:1"),
        ("explain", "bare:hot", "/x"),
        ("status", "bare:hot"),
        ("rehearse", "bare:app", "--memory", "256MiB", "--store", "nothing"),
    ],
)
def test_a_store_without_pages_is_said_once(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "bare.py").write_text("from hotpath import Hotpath\nhot = Hotpath('nothing')\n")
    done = subprocess.run(
        [sys.executable, "-m", "hotpath", *arguments],
        cwd=tmp_path,
        env={**os.environ, "HOTPATH_STORE": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = (done.stdout + done.stderr).splitlines()
    assert sum("nothing is published" in line or "no page is hot" in line for line in lines) == 1, lines
    assert done.returncode in (1, 2)
