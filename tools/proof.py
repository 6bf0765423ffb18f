"""``make proof``: the outage of the README's table, made to happen, and measured.

    python -m tools.proof            # 30 days, 1,000,000 crawls, 360 kills for memory: 31 minutes
    python -m tools.proof --short    # the same in a minute, as CI runs it

The example's app (examples/fastapi_app) gets a leak such as people write, a dictionary with keys that expire and
nothing that takes them out, and is killed by the kernel every two virtual hours. The crawl is a log that is made here:
nine of ten requests are for hot pages, and there are more by day than by night. Then the store is damaged, and
``hotpath recover`` brings it back. Exit code 1 where a goal was not reached.
"""

from __future__ import annotations

import argparse
import compileall
import json
import math
import os
import platform
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from hotpath.ops.rehearse.runs import free_port
from hotpath.store.store import Store

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "fastapi_app"
MEMORY_MIB = 192
COLD_SHARE = 0.1
# Lines of the log; more requests than that are drawn from it.
LOG_LINES = 50_000
CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
# Seconds of a run between two kills. An app needs one to start, and the front counts one that lives for less than two
# as a crash loop, which it starts later and later: no site is killed every five seconds, but these days are short.
KILL_SECONDS = 5.0
# The line before the app: what comes in the hours of a start, which are seconds here.
WAITING = 1024
RECOVER_SECONDS = 30.0


@dataclass(frozen=True)
class Form:
    """``days`` and ``requests`` are of each of the three runs, which go on at the same time."""

    days: float
    requests: int

    @property
    def kills(self) -> int:
        return round(self.days * 12)

    @property
    def seconds(self) -> float:
        return self.kills * KILL_SECONDS


FULL = Form(days=30, requests=334_000)
SHORT = Form(days=0.5, requests=5_000)


def write_log(database: Path, log: Path, days: float) -> None:
    """Crawls of all days: rankings and other hot pages, and stock pages; five times as many at noon as at midnight."""
    dice = random.Random(18)
    with closing(sqlite3.connect(database)) as connection:
        stocks = [row[0] for row in connection.execute("SELECT ticker FROM stocks")]
        markets = [row[0] for row in connection.execute("SELECT DISTINCT market FROM stocks")]
    metrics = ("market_cap", "pe_ratio", "pb_ratio")
    hot = [
        "/",
        "/robots.txt",
        "/sitemap.xml",
        *(f"/rankings/{market}/{name}" for market in markets for name in metrics),
    ]
    visits: list[tuple[float, str]] = []
    while len(visits) < LOG_LINES:
        at = dice.random() * days * 86_400
        if dice.random() < 0.6 - 0.4 * math.cos(at / 86_400 * 2 * math.pi):
            visits.append((at, f"/stocks/{dice.choice(stocks)}" if dice.random() < COLD_SHARE else dice.choice(hot)))
    start = datetime(2026, 10, 1, tzinfo=UTC)
    with log.open("w", encoding="ascii") as file:
        for at, path in sorted(visits):
            stamp = (start + timedelta(seconds=at)).strftime("%d/%b/%Y:%H:%M:%S +0000")
            file.write(f'66.249.66.1 - - [{stamp}] "GET {path} HTTP/1.1" 200 1000 "-" "{CRAWLER}"\n')


def make_site(directory: Path) -> dict[str, str]:
    """Data and two generations of hot pages; the environment in which the example finds them."""
    compileall.compile_dir(ROOT / "src", quiet=1)
    environ = {
        # Every process of the site would compile all modules again.
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "MARKETPULSE_DATABASE": str(directory / "marketpulse.db"),
        "MARKETPULSE_STORE": str(directory / "hot"),
        "HOTPATH_RUN": str(directory / "run"),
    }
    (directory / "run").mkdir(mode=0o700)
    run([sys.executable, "make_data.py", "--tickers", "80", "--days", "10"], environ)
    for _ in range(2):
        run([*HOTPATH, "build", "marketpulse:hot"], environ)
    return environ


HOTPATH = (sys.executable, "-m", "hotpath")


def run(command: list[str], environ: Mapping[str, str], *, codes: tuple[int, ...] = (0,)) -> str:
    """What a command of the example prints; what it complains about goes on to the terminal."""
    ended = subprocess.run(command, cwd=EXAMPLE, env=dict(environ), stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode not in codes:
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}")
    return ended.stdout


def recover(environ: Mapping[str, str]) -> dict[str, Any]:
    """Damage what is served, and bring it back with one command, twice: seconds, and what each said."""
    port = free_port()
    store = Store(Path(environ["MARKETPULSE_STORE"]))
    serve = [*HOTPATH, "serve", "marketpulse:app", "--port", str(port)]
    front = subprocess.Popen(
        serve, cwd=EXAMPLE, env=dict(environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port)
        damaged = max(store.sequences())
        for path in sorted(store.files_path(damaged).rglob("*")):
            if path.is_file():
                path.chmod(0o644)
                path.write_bytes(b"damaged")
        command = [
            *HOTPATH,
            "recover",
            "marketpulse:hot",
            "--build",
            "--base-url",
            f"http://127.0.0.1:{port}",
            "--json",
        ]
        took, said = [], []
        for _ in range(2):
            started = time.monotonic()
            said.append(json.loads(run(command, environ)))
            took.append(time.monotonic() - started)
        pages = ["/", "/robots.txt", "/sitemap.xml", "/rankings/NYSE/pe_ratio"]
        return {
            "seconds": took[0],
            "seconds_again": took[1],
            "finished": all(each["finished"] for each in said),
            "same": said[0]["serving"] == said[1]["serving"] and not said[1]["changed"],
            "green": all(status(port, page) == 200 for page in pages),
        }
    finally:
        front.terminate()
        front.wait(60)


def wait_for(port: int) -> None:
    for _ in range(600):
        if status(port, "/stocks/") is not None and status(port, "/") == 200:
            return
        time.sleep(0.1)
    raise SystemExit("the front does not start")


def status(port: int, path: str) -> int | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def goals(form: Form, rehearsal: dict[str, Any], recovery: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Each goal, what came out, and whether it was reached."""
    alone, _, front = rehearsal["runs"]
    limit = alone["limit_bytes"]
    return [
        (
            "hot errors behind the front: 0",
            f"{front['hot']['errors']} of {front['hot']['requests']}",
            front["hot"]["errors"] == 0,
        ),
        (
            "the app alone: at least 4 % errors",
            f"{alone['all']['error_share']:.2%}",
            alone["all"]["error_share"] >= 0.04,
        ),
        ("behind the front: at most 0.3 %", f"{front['all']['error_share']:.3%}", front["all"]["error_share"] <= 0.003),
        (
            "peak of front and app: within the limit, below the app alone",
            f"{front['peak_bytes'] / 2**20:.1f} of {limit / 2**20:.0f} MiB, alone {alone['peak_bytes'] / 2**20:.1f}",
            front["peak_bytes"] <= limit and front["peak_bytes"] < alone["peak_bytes"],
        ),
        (
            f"kills for memory of the app alone: at least {form.kills}",
            str(alone["oom_kills"]),
            alone["oom_kills"] >= form.kills,
        ),
        (
            "hotpath recover: one command, 30 s, all green, twice the same",
            f"{recovery['seconds']:.1f} s, then {recovery['seconds_again']:.1f} s",
            recovery["seconds"] <= RECOVER_SECONDS and recovery["finished"] and recovery["same"] and recovery["green"],
        ),
    ]


def rehearse(form: Form, log: Path, to: Path, environ: Mapping[str, str]) -> str:
    """The three runs: the JSON object that the command prints."""
    options = {
        "--memory": f"{MEMORY_MIB}MiB",
        "--log": str(log),
        "--days": str(form.days),
        "--seconds": f"{form.seconds:g}s",
        "--requests": str(form.requests),
        "--fault": "leak@2h",
        "--serve": f"--waiting {WAITING}",
        "--html": str(to / "proof.html"),
    }
    words = [word for pair in options.items() for word in pair]
    return run([*HOTPATH, "rehearse", "marketpulse:app", "--at-once", "--json", *words], environ, codes=(0, 1, 2))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the outage happen, and measure it.")
    parser.add_argument("--short", action="store_true", help="12 virtual hours in half a minute")
    parser.add_argument(
        "--to", type=Path, default=ROOT / "build" / "proof", help="where proof.json, proof.html and proof.svg go"
    )
    given = parser.parse_args(arguments)
    form = SHORT if given.short else FULL
    given.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hotpath-proof-") as name:
        directory = Path(name)
        environ = make_site(directory)
        log = directory / "access.log"
        write_log(Path(environ["MARKETPULSE_DATABASE"]), log, form.days)
        started = time.monotonic()
        printed = rehearse(form, log, given.to, environ)
        took = time.monotonic() - started
        recovery = recover(environ)
    page = given.to / "proof.html"
    if page.exists():
        text = page.read_text("utf-8").replace(str(log), log.name)
        page.write_text(text, "utf-8")
        (given.to / "proof.svg").write_text(picture(text), "utf-8")
    rehearsal = json.loads(printed.replace(str(log), log.name))
    (given.to / "proof.json").write_text(json.dumps({**rehearsal, "recovery": recovery}), "utf-8")
    if "runs" not in rehearsal:
        return 1
    print_table(rehearsal)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; {3 * form.requests:,} requests in {took / 60:.1f} min")
    reached = goals(form, rehearsal, recovery)
    for goal, figure, is_reached in reached:
        print(f"  {'reached    ' if is_reached else 'NOT reached'}  {goal}: {figure}")
    return 0 if rehearsal["problem"] is None and all(is_reached for *_, is_reached in reached) else 1


def print_table(rehearsal: dict[str, Any]) -> None:
    widths = [max(map(len, column)) for column in zip(*rehearsal["table"], strict=True)]
    for row in rehearsal["table"]:
        print(
            "  ".join(
                cell.rjust(width) if place else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )
    print("", *rehearsal["summary"], sep="\n")


STYLE = """
svg { color-scheme: light dark; } text { font: 16px system-ui, sans-serif; fill: #808080; }
.area { fill: #8881; } .memory { fill: none; stroke: #4878a8; stroke-width: 1.5; }
.limit { stroke: #4878a8; stroke-dasharray: 4 4; } .hot { fill: #c03830; } .cold { fill: #d89030; }
"""
KEY = (("memory", "#4878a8"), ("hot pages that failed", "#c03830"), ("cold pages that failed", "#d89030"))


def picture(page: str) -> str:
    """The plots of the page as one picture for the docs: a row for each run."""
    rows, top = [], 30
    for place, (name, colour) in enumerate(KEY):
        rows.append(f'<text x="{place * 220}" y="18" style="fill: {colour}">■ {name}</text>')
    for title, plot in re.findall(r"<h3>(.*?)</h3>\s*<svg [^>]*>(.*?)</svg>", page, re.DOTALL):
        plain = re.sub(r"<title>.*?</title>", "", plot).replace("></rect>", "/>")
        area = '<rect class="area" width="960" height="150"/>'
        rows.append(
            f'<text x="0" y="{top + 18}">{title}</text><g transform="translate(0 {top + 26})">{area}{plain}</g>'
        )
        top += 190
    label = "memory and errors over time of the three runs"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 {top}" role="img" aria-label="{label}">'
    return f"{head}<style>{STYLE}</style>{''.join(rows)}</svg>\n"


def machine() -> str:
    """What it ran on."""
    cores, memory = os.cpu_count(), psutil.virtual_memory().total / 2**30
    return f"{cores} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


if __name__ == "__main__":
    raise SystemExit(main())
