"""``hotpath demo``: a small stock screener is precomputed, served, and then attacked.

The app is ``examples/fastapi_app``, copied to a directory of its own and run with the commands a user would type. The
demo's own part is the crawler, the attacks (the app is killed, then its database is taken away) and the verdict. Every
number it prints was measured in that run.
"""

from __future__ import annotations

import contextlib
import html
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO
from urllib.parse import quote, urlsplit

import psutil

from hotpath.cli.demo_screen import Row, Screen, latency, longest, problems
from hotpath.errors import HotpathError
from hotpath.ops.crawler import Crawler, PageAnswers
from hotpath.ops.http import Reply
from hotpath.process.signals import INTERRUPTED, exit_code_of, interruptible

TARGET = "marketpulse:hot"
APP = "marketpulse:app"
DATABASE = "marketpulse.db"
STORE = Path("var", "hot")
SERVER_LOG = "server.log"
EXAMPLE_SUFFIXES = (".py", ".md")

# How often each page is asked for, before and after: enough for a 99th percentile over all pages of a kind, and still
# done in seconds.
ROUNDS = 30

# How often the app is killed, and for how long it may serve before. One that ends sooner is taken for a crash loop, and
# restarted later each time.
KILLS = 3
SERVES_SECONDS = 2.5

START_SECONDS = 30.0
STOP_SECONDS = 10.0

# Settings of a server somewhere else must not reach the one of the demo: uvicorn reads its options from these.
_FOREIGN_SETTINGS = (*"UVICORN_ WEB_CONCURRENCY MARKETPULSE_ HOTPATH_STORE HOTPATH_ORIGIN LISTEN_ NOTIFY_".split(),)


class DemoError(HotpathError):
    """The demo could not be run to its end; the text says why and what to do."""

    def __init__(self, problem: str, *, exit_code: int = 1) -> None:
        super().__init__(problem)
        self.exit_code = exit_code


# --- what the crawler asks for ---


def discover(crawler: Crawler) -> tuple[list[str], list[str], str]:
    """Hot pages, from robots.txt and the sitemap, cold ones, from what a ranking names, and one for later."""
    robots, sitemap = "/robots.txt", "/sitemap.xml"
    declared = re.search(r"^Sitemap:\s*(\S+)", _text(crawler, robots), re.MULTILINE | re.IGNORECASE)
    if declared:
        sitemap = urlsplit(declared[1]).path
    pages = [urlsplit(html.unescape(url)).path for url in re.findall(r"<loc>(.*?)</loc>", _text(crawler, sitemap))]
    rankings = [path for path in pages if path.startswith("/rankings/")]
    if not rankings:
        raise DemoError(f"{sitemap} names no ranking, so there is nothing to fetch")
    first = json.loads(_text(crawler, rankings[0]))["items"]
    last = json.loads(_text(crawler, rankings[-1]))["items"]
    tickers = dict.fromkeys((first[0]["ticker"], last[-1]["ticker"]))
    sectors = [item["sector"] for item in first if item["sector"]]
    cold = [f"/stocks/{quote(ticker, safe='')}" for ticker in tickers]
    cold += [f"{rankings[0]}?sector={quote(sector)}" for sector in sectors[:1]]
    cold.append(f"/search?q={quote(first[0]['name'].split()[0])}")
    return [robots, sitemap, *pages], cold, f"/search?q={quote(first[-1]['ticker'])}"


def _text(crawler: Crawler, path: str) -> str:
    answer = crawler.get(path)
    if answer.status != 200:
        raise DemoError(f"{path} answered {answer.status or 'nothing'} before anything was broken")
    return answer.body.decode()


# --- the app, its data and its server ---


class Workplace:
    """The directory where everything happens, and the commands that are run in it, shown as a user would type them."""

    def __init__(self, root: Path, screen: Screen) -> None:
        self.root = root
        self.database = root / DATABASE
        self.gone = root / f"{DATABASE}.gone"
        self.log = root / SERVER_LOG
        self._screen = screen
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_SETTINGS)}
        self._environment = kept | {
            "MARKETPULSE_DATABASE": str(self.database),
            "MARKETPULSE_STORE": str(root / STORE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
        }

    def make_data(self, options: Sequence[str]) -> None:
        """The database, then the rest of the example: data that cannot be used leave nothing behind."""
        example = example_directory()
        shown = f"python make_data.py {shlex.join(options)}"
        self._screen.command(shown)
        made = self._run([str(example / "make_data.py"), *options], stderr=subprocess.PIPE)
        if made.returncode:
            problem = made.stderr.strip().removeprefix("make_data: ") or f"{shown} ended with {made.returncode}"
            raise DemoError(problem, exit_code=made.returncode)
        self._screen.say(made.stdout.strip().replace(f"{self.root}{os.sep}", ""))
        for source in example.iterdir():
            # Only the example itself: where someone ran it by hand, a database of theirs stands beside it.
            if source.suffix in EXAMPLE_SUFFIXES and not source.name.startswith("test_"):
                shutil.copyfile(source, self.root / source.name)

    def build(self) -> None:
        self._screen.command(f"hotpath build {TARGET}")
        built = self._run(["-m", "hotpath", "build", TARGET])  # its progress goes to our stderr
        if built.stdout:
            self._screen.say(built.stdout.strip().replace(f"{self.root}{os.sep}", ""))
        if built.returncode:
            raise DemoError("the build failed, and why stands above", exit_code=built.returncode)

    def _run(self, arguments: Sequence[str], stderr: int | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            errors="replace",
            check=False,
        )

    @contextlib.contextmanager
    def serving(self) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """A running server and its port; it has ended when this is left, whatever the reason."""
        self._screen.command(f"hotpath serve {APP}")
        with self.log.open("wb") as log:
            server = subprocess.Popen(
                # Port 0: the system chooses one that is free, and the server says which.
                [
                    sys.executable,
                    "-m",
                    "hotpath",
                    "serve",
                    APP,
                    "--port",
                    "0",
                    "--start-timeout",
                    f"{START_SECONDS:g}s",
                ],
                cwd=self.root,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends the server
            )
            try:
                yield server, self._port_of(server)
            finally:
                end_server(server)

    def _port_of(self, server: subprocess.Popen[bytes]) -> int:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            port = re.search(r"serving on http://127\.0\.0\.1:(\d+)", self.log_text())
            if port:
                return int(port[1])
            if server.poll() is not None:
                break
            time.sleep(0.02)
        raise DemoError(f"the server did not start:\n{self.last_words()}")

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def last_words(self) -> str:
        """What the server said before it ended."""
        return "\n".join(f"  {line}" for line in self.log_text().strip().splitlines()[-5:])

    @contextlib.contextmanager
    def database_gone(self) -> Iterator[None]:
        """The attack: every handler that asks the database raises from now on. Undone at the end."""
        self._screen.command(f"mv {self.database.name} {self.gone.name}")
        self.database.rename(self.gone)
        self._screen.say("whatever asks the database raises now")
        try:
            yield
        finally:
            if self.gone.exists() and not self.database.exists():
                self.gone.rename(self.database)
                self._screen.command(f"mv {self.gone.name} {self.database.name}")


def end_server(process: subprocess.Popen[bytes]) -> None:
    """Terminate it, and kill it where that takes too long."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    finally:
        if process.poll() is None:  # a second Ctrl-C while waiting
            process.kill()
        process.wait()


def example_directory() -> Path:
    """Where the example is: inside the package of a wheel, beside ``src`` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for parent in (package, package.parents[1]):
        directory = parent / "examples" / "fastapi_app"
        if (directory / "marketpulse.py").is_file():
            return directory
    raise DemoError("examples/fastapi_app is not installed; install the wheel, or run the demo in a checkout")


def _require_extras() -> None:
    missing = [name for name in ("aiohttp", "fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoError(f"the demo needs {', '.join(missing)}: pip install 'asgi-hotpath[demo]'", exit_code=2)


@contextlib.contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="hotpath-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise DemoError(f"{keep} is not empty; give a new directory to keep the demo in", exit_code=2)
    except OSError as error:
        raise DemoError(f"{keep}: {error.strerror}", exit_code=2) from None
    yield keep.absolute()


# --- the demo ---


def run(
    csv: Path | None = None,
    *,
    serve: bool = False,
    keep: Path | None = None,
    market: str = "CSV",
    tickers: int = 8_000,
    out: TextIO | None = None,
) -> int:
    """Make data, build, serve, fetch, kill the app, take its database away, and say what was seen.

    ``csv`` is a file of real valuations in place of generated ones, and ``market`` what its market is called;
    ``tickers`` is how many stocks are generated. ``keep`` is a new directory that stays; without it nothing stays.
    ``serve`` keeps the server running, with its backend broken, until Ctrl-C. ``out`` is stdout by default.

    Returns the exit code: 0, 1 when a hot page did not stand or the backend was not broken, 130 after Ctrl-C. Raises
    ``DemoError`` when the demo could not be run to its end.
    """
    _require_extras()
    screen = Screen(out or sys.stdout)
    options = ["--tickers", str(tickers)] if csv is None else ["--csv", str(csv.resolve()), f"--market={market}"]
    try:
        with interruptible(), _directory(keep) as root:
            place = Workplace(root, screen)
            screen.say(f"MarketPulse, a small stock screener, in {root}")
            place.make_data(options)
            place.build()
            with place.serving() as (server, port), contextlib.closing(Crawler(port, START_SECONDS)) as crawler:
                screen.say(f"serving on http://127.0.0.1:{port} (process {server.pid}, and the app as its child)")
                rows, code = _attack(place, crawler, screen, server.pid, port)
                if serve:
                    with place.database_gone():
                        _keep_serving(server, port, rows, place, screen)
            if keep or not serve:
                _say_what_next(screen, root if keep else None, csv)
            return code
    except KeyboardInterrupt as interrupt:
        screen.say("\nstopped; nothing is left running" + (f", and {keep} is kept" if keep else ""))
        return exit_code_of(interrupt)


def _attack(place: Workplace, crawler: Crawler, screen: Screen, front: int, port: int) -> tuple[list[Row], int]:
    """What was seen of each page, and the exit code."""
    hot, cold, unseen = discover(crawler)
    before = crawler.measure([*hot, *cold], ROUNDS)
    validators = {path: crawler.get(path).headers.get("etag", "") for path in hot}
    killed = _measure_while_killed(port, hot, cold, front, screen)
    with place.database_gone():
        broken = crawler.measure([*hot, *cold], ROUNDS)
        first_asked = crawler.get(unseen)
        conditional = {path: crawler.get(path, {"If-None-Match": etag}) for path, etag in validators.items()}
    _wait_for_the_app(crawler, cold[0])
    after = crawler.measure([*hot, *cold], 1)
    rows = [Row(path, path in hot, before[path], killed[path], broken[path], after[path]) for path in (*hot, *cold)]
    return rows, _report(rows, conditional, first_asked, place, screen)


def _measure_while_killed(
    port: int, hot: Sequence[str], cold: Sequence[str], front: int, screen: Screen
) -> dict[str, PageAnswers]:
    """What a crawler of hot pages and one of cold pages see while the app is killed, and starts again."""
    over = threading.Event()
    seen: dict[str, PageAnswers] = {}

    def crawl(paths: Sequence[str]) -> None:
        with contextlib.closing(Crawler(port, START_SECONDS)) as crawler:
            found = {path: PageAnswers() for path in paths}
            while not over.is_set():
                crawler.add_round(found)
            seen.update(found)

    threads = [threading.Thread(target=crawl, args=(paths,)) for paths in (hot, cold)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(KILLS):
            time.sleep(SERVES_SECONDS)
            pid = _app_of(front)
            screen.command(f"kill -9 {pid}    # the app")
            os.kill(pid, signal.SIGKILL)
            with contextlib.closing(Crawler(port, START_SECONDS)) as crawler:
                _wait_for_the_app(crawler, cold[0])
    finally:
        over.set()
        for thread in threads:
            thread.join()
    return seen


def _wait_for_the_app(crawler: Crawler, path: str) -> None:
    """An app that has failed is asked again after 1, 2, 4 … seconds; until then its last good answer is given."""
    deadline = time.monotonic() + START_SECONDS
    while "stale-if-error" in crawler.get(path).headers.get("cache-status", "") and time.monotonic() < deadline:
        time.sleep(0.2)


def _app_of(front: int) -> int:
    """The app's process. Raises ``DemoError`` where the front has none."""
    children = psutil.Process(front).children()
    if not children:
        raise DemoError("the app does not run")
    return int(children[-1].pid)


def _report(
    rows: Sequence[Row], conditional: Mapping[str, Reply], first_asked: Reply, place: Workplace, screen: Screen
) -> int:
    hot = [row for row in rows if row.hot]
    cold = [row for row in rows if not row.hot]
    screen.say()
    screen.table(rows)
    screen.say()
    for kind, pages in (("hot", hot), ("cold", cold)):
        screen.say(latency(f"{kind} pages before", (row.before for row in pages)))
        screen.say(longest(f"{kind} pages while the app was killed {KILLS} times", [row.killed for row in pages]))
    screen.say(f"a cold page that nobody had asked for, without the database: {first_asked.status}")
    raised = re.findall(r"^(?:app \| )?([\w.]+(?:Error|Exception): .*)", place.log_text(), re.MULTILINE)
    if raised:
        screen.say(f"the app without its database, {len(raised)} times: {raised[-1]}")
    kept = [path for path, answer in conditional.items() if answer.status == 304 and not answer.body]
    screen.say(
        f"a crawler that sends the ETag it has: 304 without a body for {len(kept)} of {len(conditional)} hot pages"
    )
    failures = problems(rows)
    if first_asked.status == 200:
        failures.append("a page that asks the database was 200 without it, so nothing was broken and nothing is shown")
    failures += [
        f"{path} answered {conditional[path].status} to its own ETag" for path in conditional if path not in kept
    ]
    for problem in failures:
        screen.verdict(False, problem)
    if not failures:
        generation = hot[0].after.generation
        screen.verdict(
            True,
            f"{len(hot)} of {len(hot)} hot pages stayed at 200 from generation {generation} with the same bytes;"
            f" {len(cold)} of {len(cold)} cold pages stayed at 200 too, as last good answers while the app was gone or"
            " had no database",
        )
    return 1 if failures else 0


def _keep_serving(
    server: subprocess.Popen[bytes], port: int, rows: Iterable[Row], place: Workplace, screen: Screen
) -> None:
    screen.say("\nstill running, with its database gone:")
    for row in rows:
        screen.say(f"  {'hot ' if row.hot else 'cold'}  http://127.0.0.1:{port}{row.path}")
    screen.say(f"bring the database back:  mv {shlex.quote(str(place.gone))} {shlex.quote(str(place.database))}")
    try:
        screen.say("Ctrl-C ends it")
        server.wait()
    except KeyboardInterrupt as interrupt:
        if exit_code_of(interrupt) != INTERRUPTED:
            raise
        screen.say()
        return
    raise DemoError(f"the server ended by itself ({server.returncode}):\n{place.last_words()}")


def _say_what_next(screen: Screen, kept: Path | None, csv: Path | None) -> None:
    screen.say("\nnext:")
    if kept:
        python = shlex.quote(sys.executable)
        screen.say(f"  cd {shlex.quote(str(kept))}   # the app, its database and its store: change marketpulse.py, and")
        screen.say(f"  {python} -m hotpath build {TARGET}")
        screen.say(f"  {python} -m hotpath status {TARGET}")
        screen.say(f"  {python} -m hotpath serve {APP}")
        return
    command = _command()
    if csv is None:
        screen.say(f"  {command} demo --csv FILE    with your own table of stocks")
    screen.say(f"  {command} demo --serve       keeps it running, to look at in a browser")
    screen.say(f"  {command} demo --keep DIR    keeps the app, its database and its store, to change them")


def _command() -> str:
    """How ``hotpath`` is called from here: by its name where that is found, else by its path."""
    if shutil.which("hotpath"):
        return "hotpath"
    script = Path(sys.executable).with_name("hotpath")
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m hotpath"
    return shlex.quote(str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script))


__all__ = ["DemoError", "run"]
