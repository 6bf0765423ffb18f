"""Workers start safely: forked from a process alone, else a fresh interpreter, and items end the same way in both."""

from __future__ import annotations

import json
import random
import re
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from hotpath.batch.reports import last_run
from hotpath.store.store import Store

TIMEOUT_SECONDS = 60

# A native thread pool in small: work is done by a thread that a forked child does not have.
THREADS = """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
"""


@dataclass(frozen=True)
class Done:
    """What a program that built a site said, and what is published: the payloads by their keys."""

    status: int
    stderr: str
    pages: dict[str, Any]


# As ever, which test_pool.py tries at length.
FORKED = pytest.param("", marks=pytest.mark.slow)

Build = Callable[..., Done]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """``hotpath build`` of a module ``pages`` with this source; or the program ``run.py``, where there is one."""

    def run(source: str, *options: str, program: str | None = None, as_module: bool = False) -> Done:
        head = "from hotpath import Hotpath\nhot = Hotpath('hot')\n"
        (tmp_path / "pages.py").write_text(head + textwrap.dedent(source))
        command = ["-m", "hotpath", "build", "pages:hot", "--timeout", "5s", *options]
        if program is not None:
            (tmp_path / "run.py").write_text(textwrap.dedent(program))
            command = ["-m", "run"] if as_module else ["run.py"]
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Done(done.returncode, done.stderr, published(tmp_path / "hot"))

    return run


def published(store: Path) -> dict[str, Any]:
    generations = sorted(store.glob("generations/*"), key=lambda path: int(path.name))
    if not generations:
        return {}
    files = generations[-1] / "files"
    return {path.relative_to(files).stem: json.loads(path.read_bytes()) for path in files.rglob("*.json")}


def is_fresh(done: Done) -> bool:
    """Whether the item ``how`` ran in an interpreter that knows nothing of the batch."""
    fresh: bool = done.pages["how"][0]
    return fresh


# A page that says it; -P is an option of the interpreters that the batch starts.
HOW = """
import sys

@hot.route("/how")
def how():
    return [sys.flags.safe_path]
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_pool_of_threads_that_the_module_has_used_works_in_the_items(build: Build, workers: str) -> None:
    source = """
    @hot.route("/{n}", each={"n": list(range(4))})
    def page(n):
        return [pool.submit(pow, n, 2).result()]
    """
    done = build(THREADS + textwrap.dedent(source), "--workers", workers)
    assert done.status == 0, done.stderr
    assert done.pages == {str(n): [n * n] for n in range(4)}


@pytest.mark.slow
def test_a_pool_of_threads_that_each_has_started_is_not_the_items_concern(build: Build) -> None:
    source = """
    from concurrent.futures import ThreadPoolExecutor
    pool = ThreadPoolExecutor(1)

    def numbers():
        return [{"n": n} for n in pool.map(abs, range(3))]

    @hot.route("/{n}", each=numbers)
    def page(n):
        return [pool.submit(pow, n, 2).result()]
    """
    done = build(source)
    assert done.status == 0, done.stderr
    assert done.pages == {str(n): [n * n] for n in range(3)}


@pytest.mark.slow
def test_a_pool_of_processes_that_the_module_has_used_works_and_its_worker_is_kept(build: Build) -> None:
    source = """
    import multiprocessing, os
    pool = multiprocessing.get_context("fork").Pool(2)
    pool.map(abs, [1])

    @hot.route("/{n}", each={"n": list(range(4))})
    def page(n):
        return [pool.apply(pow, (n, 2)), os.getpid()]
    """
    done = build(source)
    assert done.status == 0, done.stderr
    assert [done.pages[str(n)][0] for n in range(4)] == [n * n for n in range(4)]
    assert len({pid for _, pid in done.pages.values()}) == 1


@pytest.mark.slow
def test_a_pool_of_processes_in_an_item_works_both_ways(build: Build) -> None:
    source = """
    from concurrent.futures import ProcessPoolExecutor

    @hot.route("/{n}", each={"n": [1, 2]})
    def page(n):
        with ProcessPoolExecutor(1) as pool:
            return [*pool.map(abs, [n])]
    """
    for before in ("", THREADS):
        done = build(before + textwrap.dedent(source))
        assert done.status == 0, done.stderr
        assert done.pages == {"1": [1], "2": [2]}


@pytest.mark.slow
def test_a_module_without_threads_is_forked(build: Build) -> None:
    assert not is_fresh(build(HOW))
    assert is_fresh(build(THREADS + HOW))


@pytest.mark.slow
def test_a_polars_frame_of_the_module_is_filtered_in_an_item(build: Build) -> None:
    pytest.importorskip("polars")
    source = """
    import polars
    frame = polars.DataFrame({"n": list(range(100_000))})
    frame.filter(polars.col("n") > 3)

    @hot.route("/{n}", each={"n": [10, 20]})
    def page(n):
        return [frame.filter(polars.col("n") < n).height]
    """
    done = build(source)
    assert done.status == 0, done.stderr
    assert done.pages == {"10": [10], "20": [20]}


BAD = """
import ctypes, os, sys, time
held = []

@hot.route("/memory")
def memory():
    while True:
        held.append(bytearray(1 << 20))

@hot.route("/slow", timeout="0.5s")
def slow():
    time.sleep(100)

@hot.route("/crash")
def crash():
    ctypes.string_at(0)

@hot.route("/exit")
def leave():
    os._exit(3)

@hot.route("/raises")
def raises():
    print("printed before it failed")
    raise ValueError("no data")

@hot.route("/good/{n}", each={"n": [1, 2, 3]})
def good(n):
    return [n, sys.argv[1:3], sys.stdin.read()]
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", [FORKED, THREADS], ids=["forked", "fresh"])
def test_limits_and_reports_are_the_same_in_both(build: Build, before: str, tmp_path: Path) -> None:
    assert build(before + '@hot.route("/first")\ndef first():\n    return [1]\n').status == 0
    done = build(before + BAD, "--memory", "96MiB", "--max-failures", "1")
    assert done.status == 0, done.stderr
    report = last_run(Store(tmp_path / "hot"))
    assert report is not None
    failures = {failure["key"]: failure for failure in report["failures"]}
    at = re.escape(str(tmp_path / "pages.py"))
    for key, problem in {
        "/memory": r"ran out of memory \(each item may use 96\.0 MiB\)",
        "/slow": rf"did not finish within 0\.5 s; it was at {at}:\d+ in slow",
        "/crash": rf"was killed by SIGSEGV .*; it was at {at}:\d+ in crash",
        "/exit": r"ended its process with status 3",
        "/raises": rf"ValueError: no data at {at}:\d+ \(.*\)",
    }.items():
        assert re.fullmatch(problem, failures.pop(key)["problem"]), key
    assert failures == {}
    printed = {failure["key"]: failure["output"] for failure in report["failures"]}
    assert printed["/raises"] == "printed before it failed\n"
    assert 96 << 20 < report["peak_bytes"] < 400 << 20
    assert done.pages == {str(n): [n, ["build", "pages:hot"], ""] for n in (1, 2, 3)}


PROGRAM = """
import sys
from pages import hot
from hotpath.batch import build

if __name__ == "__main__":
    build(hot)
"""


# Declared in the program itself, whose classes are parameters too.
DECLARES = PROGRAM.replace(
    "\nif",
    HOW
    + """
class N(int):
    pass

@hot.route("/{n}", each={"n": [N(7)]})
def page(n):
    return [type(n) is N]

if""",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "program", "as_module"),
    [
        (THREADS + HOW, PROGRAM, False),
        # Declared in a module that is not the one that makes the object.
        ("", PROGRAM.replace("import sys\n", "import sys, more\n"), False),
        (THREADS, DECLARES, False),
        (THREADS, DECLARES, True),
    ],
    ids=["module", "other module", "program", "python -m"],
)
def test_a_program_that_calls_build_has_fresh_interpreters_too(
    build: Build, source: str, program: str, as_module: bool, tmp_path: Path
) -> None:
    (tmp_path / "more.py").write_text("from pages import hot\n" + THREADS + HOW)
    done = build(source, program=program, as_module=as_module)
    assert done.stderr == ""
    assert is_fresh(done)
    assert done.pages.get("7", [True]) == [True]


@pytest.mark.slow
def test_items_have_the_working_directory_that_the_batch_has(build: Build, tmp_path: Path) -> None:
    """A module that goes down one directory would go down another one each time it is imported."""
    change = """
    import os
    os.makedirs("below", exist_ok=True)
    os.chdir("below")

    @hot.route("/where")
    def where():
        return [os.getcwd()]
    """
    done = build(textwrap.dedent(change) + THREADS + HOW)
    assert is_fresh(done), done.stderr
    assert done.pages["where"] == [str(tmp_path / "below")]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["build-pages", "folder"])
def test_a_program_without_an_ending_or_a_directory_has_fresh_interpreters_too(tmp_path: Path, command: str) -> None:
    """Installed as ``bin/build-pages``, or run as ``python folder``."""
    program = tmp_path / command
    if command == "folder":
        program.mkdir()
        program /= "__main__.py"
    declares = DECLARES.replace("from pages import hot", "from hotpath import Hotpath\nhot = Hotpath('hot')")
    program.write_text(declares.replace("\nif", THREADS + "\nif"))
    done = subprocess.run(
        [sys.executable, command], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert published(tmp_path / "hot") == {"how": [True], "7": [True]}


UNGUARDED = PROGRAM.replace('if __name__ == "__main__":', "if True:")
IN_A_FUNCTION = f"""
from hotpath import Hotpath
from hotpath.batch import build
{THREADS}
def declare():
    hot = Hotpath("hot")
    @hot.route("/how")
    def how():
        return [False]
    return hot

build(declare())
"""
ONLY_ONCE = """
import os
os.mkdir("only-once")
"""
NO_TEXT = """
@hot.route("/{n}", each=lambda: [{"n": "a", "function": lambda: 1}])
def page(n, function):
    return [function()]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "program", "problem"),
    [
        ("", IN_A_FUNCTION, "no module has this Hotpath object; declare it at the top of a module, or run 'hotpath bu"),
        (THREADS + HOW + "hot.target = ''\n", PROGRAM, "its Hotpath object has no target; workers are forked"),
        (
            THREADS,
            UNGUARDED.replace("\nif", HOW + "\nif"),
            'the program that runs declares it, without if __name__ == "__main__"; declare it at the top of a module',
        ),
        (ONLY_ONCE + THREADS + HOW, None, "FileExistsError: [Errno 17] File exists: 'only-once' at "),
        ("import os\nif os.path.exists('hot/generations'): os._exit(3)\n" + THREADS + HOW, None, "it ended while it"),
        (THREADS + NO_TEXT, None, "what each= gives for /a cannot be sent to it ("),
    ],
    ids=["in a function", "no target", "program", "import fails", "import ends", "parameters"],
)
def test_what_no_fresh_interpreter_can_have_is_forked_with_a_warning(
    build: Build, source: str, program: str | None, problem: str
) -> None:
    done = build(source, program=program)
    assert done.status == 0, done.stderr
    assert done.pages in ({"how": [False]}, {"a": [1]})
    said = [line for line in done.stderr.splitlines() if "fresh interpreter" in line]
    assert len(said) == 1, done.stderr
    assert said[0].startswith("hotpath: this process has 2 threads, and a fresh interpreter cannot run the items: ")
    assert problem in said[0]
    assert said[0].endswith("; workers are forked, which may hang")


@pytest.mark.slow
def test_an_import_that_hangs_in_the_fresh_interpreter_ends(build: Build) -> None:
    program = """
    import hotpath.batch.pool
    from hotpath.batch import build
    from pages import hot

    if __name__ == "__main__":
        hotpath.batch.pool.START_SECONDS = 0.5
        build(hot)
    """
    source = "import os, time\nif os.path.exists('hot/generations'): time.sleep(100)\n"
    done = build(source + THREADS + HOW, program=program)
    assert not is_fresh(done)
    assert "cannot run the items: it was not imported within 0.5 s; workers are forked" in done.stderr


@pytest.mark.slow
def test_fresh_interpreters_end_with_the_batch(tmp_path: Path) -> None:
    source = """
    from hotpath import Hotpath
    hot = Hotpath("hot")

    @hot.route("/a")
    def page():
        import os, time
        with open("pid.new", "w") as file:
            file.write(str(os.getpid()))
        os.rename("pid.new", "pid")
        time.sleep(100)
    """
    (tmp_path / "pages.py").write_text(THREADS + textwrap.dedent(source))
    batch = subprocess.Popen([sys.executable, "-m", "hotpath", "build", "pages:hot", "--quiet"], cwd=tmp_path)
    try:
        wait_until((tmp_path / "pid").exists)
    finally:
        batch.kill()
        batch.wait(10)
    worker = int((tmp_path / "pid").read_text())
    wait_until(lambda: not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_hook_is_called_before_each_item_and_what_it_raises_is_the_items_failure(build: Build) -> None:
    source = """
    from hotpath.batch.hooks import before_each_item
    calls = []

    def hook():
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("no connection")

    before_each_item(hook)
    before_each_item(hook)

    @hot.route("/{n}", each={"n": [1, 2, 3, 4]})
    def page(n):
        return [len(calls)]
    """
    build("@hot.route('/{n}', each={'n': [1, 2, 3, 4]})\ndef page(n):\n    return [0]\n")
    done = build(source)
    assert "FAILED /3: raised RuntimeError: no connection; its last good bytes stay" in done.stderr
    assert done.pages == {"1": [1], "2": [2], "3": [0], "4": [4]}


@pytest.mark.slow
def test_a_connection_that_each_left_open_has_one_user(build: Build) -> None:
    source = """
    import functools, os, socket, threading

    @functools.cache
    def connection():
        return socket.create_connection(("127.0.0.1", int(os.environ["PORT"])))

    def numbers():
        connection().sendall(b"n")
        return [{"n": n} for n in range(3)]

    @hot.route("/{n}", each=numbers)
    def page(n):
        return [connection().getsockname()]
    """
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORT", str(server.getsockname()[1]))
        done = build(source)
        connection, (_, first_port) = server.accept()
        connection.close()
    assert done.status == 0, done.stderr
    ports = {port for ((_, port),) in done.pages.values()}
    assert len(ports) == 1  # one connection for the worker, which is not the one that each= opened
    assert first_port not in ports


@pytest.mark.slow
def test_a_fresh_interpreter_reads_the_databases_of_the_run(build: Build, tmp_path: Path) -> None:
    source = """
    import sqlite3
    from hotpath.batch import sqlite_snapshot
    snapshot = sqlite_snapshot("data.db")

    def add():
        with sqlite3.connect("data.db") as db:
            db.execute("INSERT INTO t VALUES (1)")
        return [{"n": 1}]

    @hot.route("/{n}", each=add)
    def page(n):
        with snapshot.connect() as db:
            return [row[0] for row in db.execute("SELECT count(*) FROM t")]
    """
    with closing(sqlite3.connect(tmp_path / "data.db")) as db:
        db.execute("CREATE TABLE t (n)")
        db.commit()
    done = build(THREADS + textwrap.dedent(source))
    assert done.status == 0, done.stderr
    assert done.pages == {"1": [0]}


GENERATORS = """
import os, random, time
import numpy
own = random.Random(5)
shared = numpy.random.RandomState(5)
modern = numpy.random.default_rng(5)

@hot.route("/{n}", each={"n": [1, 2, 3, 4]})
def page(n):
    time.sleep(0.3)
    draws = [random.random(), numpy.random.random(), own.random(), float(shared.rand()), float(modern.random())]
    return draws + [os.getpid()]
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", THREADS], ids=["forked", "fresh"])
def test_two_workers_draw_other_numbers(build: Build, before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # which are threads too
    done = build(before + GENERATORS, "--workers", "2")
    assert done.status == 0, done.stderr
    assert len({page[-1] for page in done.pages.values()}) == 2
    for column in [*zip(*done.pages.values(), strict=True)][:-1]:
        assert len(set(column)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", THREADS], ids=["forked", "fresh"])
def test_one_worker_draws_what_the_module_has_seeded(
    build: Build, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    pages = build(before + GENERATORS).pages
    own = random.Random(5)
    assert [pages[str(n)][2] for n in (1, 2, 3, 4)] == [own.random() for _ in range(4)]


@pytest.mark.slow
def test_a_worker_that_comes_after_another_draws_other_numbers(build: Build) -> None:
    source = """
    import random, subprocess
    own = random.Random(5)

    @hot.route("/{n}", each={"n": [1, 2, 3]})
    def page(n):
        subprocess.Popen(["sleep", "100"])  # left behind, so the worker is not used again
        return [own.random()]
    """
    pages = build(source).pages
    assert len({number for (number,) in pages.values()}) == 3


@pytest.mark.slow
def test_what_an_item_sets_in_its_context_ends_with_it(build: Build) -> None:
    source = """
    import decimal
    from contextvars import ContextVar
    language = ContextVar("language", default="en")

    def use():
        seen = [language.get(), decimal.getcontext().prec]
        language.set("de")
        decimal.getcontext().prec = 3
        return seen

    @hot.route("/{n}", each={"n": [1, 2]})
    def page(n):
        return use()

    @hot.route("/async/{n}", each={"n": [3, 4]})
    async def page2(n):
        return use()
    """
    assert build(source).pages == {key: ["en", 28] for key in "1234"}
