"""Recoveries that are killed: a process that has all modules loaded forks one child for each run of ``recover``.

``python -m tests.ops.recovering`` reads a line of JSON for each run and answers with how it ended. The table of
all kills is printed by ``python -m tests.ops.kill_table``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from hotpath.batch.run import build
from hotpath.ops.check import CheckOptions
from hotpath.ops.purge.providers import PurgeWebhook
from hotpath.ops.recovery.incident import RecoveryOptions
from hotpath.ops.recovery.journal import DOING, DONE, END, SKIPPED
from hotpath.ops.recovery.recover import recover
from hotpath.ops.secret import Secret
from hotpath.site import Hotpath
from hotpath.store.store import Store
from hotpath.store.verify import verify
from tests.ops.local import Answered, Server, public_site
from tests.store.crash.operations import AFTER, BEFORE, MIDDLE, KillingDisk
from tests.store.faults.sites import edit

REPOSITORY = Path(__file__).resolve().parents[2]
NOW = 1_800_000_000
KILLED = -9

# What each scenario asks of the recovery.
SCENARIOS = {
    "wrong data": {"rollback": True, "build": True},
    "damaged file": {"rollback": False, "build": False},
    "damaged manifest": {"rollback": False, "build": True},
}


def declared(root: Path, bump: int = 0) -> Hotpath:
    """A site of twelve pages; three of them hold ``bump``."""
    hot = Hotpath(root)
    hot.store.clock = lambda: NOW

    @hot.route("/rankings/{market}", each={"market": ["kospi", "nyse"]}, records="items", critical=True)
    def rankings(market: str) -> dict[str, Any]:
        return {"market": market, "items": [{"ticker": f"{market}-{row}", "pe": row + bump} for row in range(40)]}

    @hot.route("/stocks/{name}", each={"name": [f"s{number}" for number in range(10)]})
    def stock(name: str) -> dict[str, Any]:
        return {"name": name, "bump": bump if name == "s0" else 0}

    return hot


def prepare(root: Path, scenario: str) -> None:
    """Two generations, and what went wrong with the second."""
    for bump in (1, 2):
        build(declared(root, bump))
    second = root / "generations" / "2"
    if scenario == "damaged file":
        path = second / "files" / "rankings" / "kospi.json"
        path.unlink()
        edit(path, b'{"items": []}')
    if scenario == "damaged manifest":
        path = second / "manifest.json"
        data = path.read_bytes()
        edit(path, data.replace(b"kospi", b"kospx"))


@dataclass(frozen=True)
class Run:
    """How one run of ``recover`` ended: ``status`` is 0 when it finished, 1 when it stopped, -9 when it was killed."""

    status: int
    changed: bool
    trace: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Killer:
    """The forking process."""

    requests: IO[str]
    answers: IO[str]

    def run(
        self, root: Path, scenario: str, base_url: str, purge_url: str, number: int = -1, moment: str = BEFORE
    ) -> Run:
        """Recover, and end with SIGKILL at operation ``number`` on the store."""
        print(json.dumps([str(root), scenario, base_url, purge_url, number, moment]), file=self.requests, flush=True)
        line = self.answers.readline()
        assert line, "the forking process has ended"
        status, told = json.loads(line)
        return Run(status, **told) if told else Run(status, True, [])


@contextmanager
def forking() -> Iterator[Killer]:
    process = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin, process.stdout:
        yield Killer(process.stdin, process.stdout)
        process.stdin.close()


def _serve() -> None:
    for line in sys.stdin:
        root, scenario, base_url, purge_url, number, moment = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _recover(Path(root), scenario, base_url, purge_url, number, moment, writing)
        os.close(writing)
        with os.fdopen(reading) as told:
            text = told.read()
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), json.loads(text) if text else None]), flush=True)


def _recover(root: Path, scenario: str, base_url: str, purge_url: str, number: int, moment: str, writing: int) -> None:
    status = 2
    try:
        hot = declared(root, 3)
        disk = KillingDisk(base=root, number=number, moment=moment)
        hot.store.disk = disk
        options = RecoveryOptions(
            base_url=base_url,
            purgers=[PurgeWebhook(Secret(purge_url))],
            check=CheckOptions(wait_seconds=5),
            **SCENARIOS[scenario],
        )
        found = recover(hot, options)
        trace = [
            (one.kind, one.path, orjson.loads(one.data)["step"] + ":" + orjson.loads(one.data)["state"])
            if one.kind == "append" and one.path == "recover.jsonl"
            else (one.kind, one.path, "")
            for one in disk.trace
        ]
        os.write(writing, json.dumps({"changed": found.changed, "trace": trace}).encode())
        status = 0 if found.finished else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def state(root: Path) -> dict[str, object]:
    """Everything of a store that readers, writers and people go by."""
    store = Store(root)

    def text(path: Path) -> str | None:
        return path.read_text() if path.exists() else None

    return {
        "CURRENT": text(store.current_path),
        "PIN": text(store.pin_path),
        "BAD": text(store.bad_path),
        "link": store.linked(),
        "serving": store.chosen_sequence(),
        "manifests": {number: text(store.manifest_path(number)) for number in store.sequences()},
        "quarantine": store.quarantined(),
        "litter": [path.name for path in root.iterdir() if path.name.startswith(".")],
        "damages": [str(one.path.relative_to(root)) for one in verify(store).damages],
        "history": sorted(
            {(line["event"], line["sequence"]) for line in _lines(store.history_path) if "sequence" in line}
        ),
        "checklist": [
            (line["step"], line["state"])
            for line in _lines(root / "recover.jsonl")
            if line["state"] in (DONE, SKIPPED, END)
        ],
    }


def everything(root: Path) -> dict[str, bytes]:
    """Each file below ``root`` with its bytes: what a run that changes nothing leaves as it is."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and path.name != "lock"
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            continue  # torn by the kill
    return found


@dataclass
class Bench:
    """One scenario, to be run from the same start again and again."""

    killer: Killer
    scenario: str
    directory: Path

    def __post_init__(self) -> None:
        self._start = self.directory / "start"
        prepare(self._start, self.scenario)
        self._cases = 0

    def case(self, number: int = -1, moment: str = BEFORE) -> Outcome:
        """Recover, killed at an operation; then to its end; then once more."""
        self._cases += 1
        root = self.directory / f"case{self._cases}"
        shutil.copytree(self._start, root, symlinks=True)
        try:
            with (
                public_site(declared(root)) as site,
                Server(lambda asked: Answered(200)) as purge,
            ):
                arguments = (root, self.scenario, site.url, f"{purge.url}/purge")
                first = self.killer.run(*arguments, number, moment)
                second = self.killer.run(*arguments)
                before = everything(root)
                purges = len(purge.asked)
                third = self.killer.run(*arguments)
                return Outcome(
                    first,
                    second,
                    third,
                    state(root),
                    frozenset(url for asked in purge.asked for url in orjson.loads(asked.body)["purge"]),
                    everything(root) == before and len(purge.asked) == purges,
                    site.url,
                )
        finally:
            shutil.rmtree(root)


@dataclass(frozen=True)
class Outcome:
    """What became of one case; ``untouched`` says that the third run left every byte and asked nobody to purge."""

    first: Run
    second: Run
    third: Run
    end: dict[str, object]
    purged: frozenset[str]
    untouched: bool
    base_url: str

    @property
    def purged_paths(self) -> frozenset[str]:
        return frozenset(url.removeprefix(self.base_url) for url in self.purged)


def boundaries(run: Run) -> Iterator[tuple[str, str, int, str]]:
    """(step, when, number, moment) of each kill at a step's boundary."""
    for number, (kind, path, entry) in enumerate(run.trace):
        if kind != "append" or path != "recover.jsonl" or entry.startswith(":"):
            continue
        step, _, what = entry.partition(":")
        words = {DOING: ("before", "begun"), DONE: ("done, not noted", "noted"), SKIPPED: ("before", "noted")}[what]
        yield step, words[0], number, BEFORE
        yield step, "half noted", number, MIDDLE
        yield step, words[1], number, AFTER


if __name__ == "__main__":
    _serve()
