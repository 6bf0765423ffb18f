"""A program that rewrites files in place in the nastiest ways, and keeps a log of what it did and when.

``python -m tests.store.faults.rewriter DIRECTORY SEED FILES ROUNDS`` writes all files once, waits for a line of input,
and then has one thread for each file. A round is a burst of rewrites with short pauses in the middle of the file, and a
rest in which the file stays as it is: whole, spoiled or gone. Every line of output is a JSON object; times are of the
monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Longer than a change may take to show.
REST_SECONDS = 2.3
BURST = 8
# A pause in the middle of a file, and a time for which its name is gone; the product bridges about twice of each.
PAUSE_SECONDS = 0.35
GONE_SECONDS = 0.2
# Two looks in a row that find a file gone make it a miss, also where it was back between them.
APART_SECONDS = 1.5

PRINTING = threading.Lock()


def version(name: str, number: int, chance: random.Random) -> bytes:
    """One whole version: JSON that a prefix of, or a mixture of two, is JSON too, or an object, long or short."""
    if chance.random() < 0.6:
        digits = "".join(chance.choices("0123456789", k=chance.choice((20, 400, 3000))))
        return f"{number}.{digits}".encode()
    return json.dumps({"file": name, "number": number, "fill": "é" * chance.choice((1, 100, 3000))}).encode()


def number_of(body: bytes) -> int:
    """The number of the version."""
    found = json.loads(body)
    return int(found["number"]) if isinstance(found, dict) else int(body.split(b".")[0])


class Rewriter:
    """One file and the ways to write it."""

    def __init__(self, path: Path, seed: str) -> None:
        self.path = path
        self.chance = random.Random(seed)
        self.number = 0
        self.last_step = self.last_gone = 0.0
        self.ways: tuple[Callable[[bytes], None], ...] = (
            self.truncate_and_write_in_pieces,
            self.write_over_in_pieces,
            self.write_over_and_cut,
            self.write_over_from_the_end,
            self.empty_first,
            self.not_utf8_first,
            self.put_the_time_back,
            self.rename_over,
            self.delete_and_make_anew,
        )

    def log(self, **facts: object) -> None:
        with PRINTING:
            print(json.dumps({"file": self.path.stem, "at": time.monotonic(), **facts}), flush=True)

    def step(self, limit: float = PAUSE_SECONDS) -> None:
        """A pause in the middle of a file. One that the machine made much longer is told, with what was there."""
        started = self.last_step
        there = self.path.read_bytes() if self.path.exists() else b""
        if self.chance.random() < 0.5:
            time.sleep(self.chance.random() * limit)
        self.last_step = time.monotonic()
        if self.last_step - started > 2 * limit:
            self.log(paused=self.last_step - started, sha256=hashlib.sha256(there).hexdigest())

    def rewrite(self) -> None:
        """A new version, in one of the ways."""
        self.number += 1
        body = version(self.path.stem, self.number, self.chance)
        if not self.path.exists():
            self.path.touch()
        way = self.chance.choice(self.ways)
        self.last_step = time.monotonic()
        way(body)
        self.step(0.01)
        self.log(done=self.number, sha256=hashlib.sha256(body).hexdigest(), way=way.__name__)
        assert self.path.read_bytes() == body

    def pieces(self, body: bytes) -> Iterator[tuple[int, bytes]]:
        """Where each of a few pieces begins, and the piece."""
        cuts = sorted({0, len(body), *(self.chance.randrange(len(body)) for _ in range(3))})
        for start, stop in itertools.pairwise(cuts):
            yield start, body[start:stop]

    def write(self, pieces: list[tuple[int, bytes]]) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT)
        for start, piece in pieces:
            os.pwrite(descriptor, piece, start)
            self.step()
        os.close(descriptor)

    def truncate_and_write_in_pieces(self, body: bytes) -> None:
        os.truncate(self.path, 0)
        self.write([*self.pieces(body)])

    def write_over_in_pieces(self, body: bytes) -> None:
        """The size changes at once, and is the same as before where the lengths are."""
        os.truncate(self.path, len(body))
        self.write([*self.pieces(body)])

    def write_over_and_cut(self, body: bytes) -> None:
        """Until it is cut, the new beginning has the old end."""
        self.write([*self.pieces(body)])
        os.truncate(self.path, len(body))

    def write_over_from_the_end(self, body: bytes) -> None:
        os.truncate(self.path, len(body))
        self.write([*self.pieces(body)][::-1])

    def empty_first(self, body: bytes) -> None:
        self.path.write_bytes(b"")
        self.step()
        self.path.write_bytes(body)

    def not_utf8_first(self, body: bytes) -> None:
        self.path.write_bytes(b'{"number":"\xff\xfe"}')
        self.step()
        self.path.write_bytes(body)

    def put_the_time_back(self, body: bytes) -> None:
        """As a copy that preserves times: what is new looks as old as what was there."""
        before = self.path.stat()
        os.truncate(self.path, len(body))
        self.write([*self.pieces(body)])
        os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def rename_over(self, body: bytes) -> None:
        temporary = self.path.with_suffix(".new")
        temporary.write_bytes(body)
        temporary.replace(self.path)

    def delete_and_make_anew(self, body: bytes) -> None:
        if time.monotonic() - self.last_gone > APART_SECONDS:
            self.path.unlink()
            self.last_gone = time.monotonic()
            self.step(GONE_SECONDS)
        self.write([*self.pieces(body)])
        os.truncate(self.path, len(body))

    def spoil(self) -> str:
        """Leave the file in a state that must never be served; what was done."""
        kind = self.chance.choice(("whole", "whole", "whole", "empty", "torn", "not UTF-8", "gone"))
        if kind == "empty":
            os.truncate(self.path, 0)
        elif kind == "torn":
            self.path.write_bytes(json.dumps({"file": self.path.stem, "number": self.number}).encode()[:-1])
        elif kind == "not UTF-8":
            self.path.write_bytes(b'{"number":"\xc3"}')
        elif kind == "gone":
            self.path.unlink()
        return kind

    def begin(self) -> None:
        """The first version, which looks as if nobody had touched it for long."""
        body = version(self.path.stem, 0, self.chance)
        self.path.write_bytes(body)
        os.utime(self.path, (0, 0))
        self.log(done=0, sha256=hashlib.sha256(body).hexdigest())

    def run(self, rounds: int) -> None:
        """All of it."""
        time.sleep(self.chance.random())  # so that not all files rest at the same time
        for _ in range(rounds):
            for _ in range(self.chance.randint(1, BURST)):
                self.rewrite()
            kind = self.spoil()
            self.log(rests=kind)
            time.sleep(REST_SECONDS)
            self.log(rested=kind)


def main(directory: Path, seed: str, files: int, rounds: int) -> None:
    rewriters = [Rewriter(directory / f"f{number}.json", f"{seed} {number}") for number in range(files)]
    for rewriter in rewriters:
        rewriter.begin()
    sys.stdin.readline()
    threads = [threading.Thread(target=rewriter.run, args=(rounds,)) for rewriter in rewriters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
