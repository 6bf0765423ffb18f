"""What keeps a process answering while it loads a generation of many pages."""

from __future__ import annotations

import gc
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

from hotpath.serving.snapshot import Page
from hotpath.store.manifest import Head, item_lines, key_of, route_of, stale_since_of

# The interpreter is given away after so many lines or pages, for as long as a waiting thread needs to take it: the
# event loop of the same process goes on answering.
LINES_A_BREATH = 1000
PAGES_A_BREATH = 20
BREATH_SECONDS = 0.0001

P = ParamSpec("P")
R = TypeVar("R")

# What a page costs in memory beside its bodies: its variants with their header lists, about 1.5 KB a coding.
PAGE_OVERHEAD_BYTES = 4096

# The garbage collector's thresholds before the load that goes on, if any; and one that is never reached.
_thresholds: list[tuple[int, int, int]] = []
_NEVER = 2**31 - 1

Index = tuple[dict[bytes, bytes], Counter[int], set[bytes], dict[bytes, frozenset[str]]]


class Loader:
    """The thread that loads: what allocates bodies runs in one thread, whoever wants it.

    malloc(3) gives each thread an arena of its own, and what is freed in one is no room for another: with loads from
    all threads of a pool, 64 MiB of bodies took 118 MiB of memory.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hotpath-load")
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What ``function`` returns. Blocks until everything before it is done."""
        try:
            done = self._pool.submit(function, *args, **kwargs)
        except RuntimeError:  # closed, or the interpreter is ending
            return function(*args, **kwargs)
        return done.result()

    def run_soon(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The same, but what is running may let it in between: nobody who needs one page waits for a generation."""
        done: Future[R] = Future()
        self._waiting.append((partial(function, *args, **kwargs), done))
        try:
            self._pool.submit(self._run_waiting)
        except RuntimeError:
            self._run_waiting()
        return done.result()

    def breathe(self) -> None:
        """For what takes long: give the interpreter away for a moment, and do what is waiting for this thread."""
        time.sleep(BREATH_SECONDS)
        self._run_waiting()

    def close(self) -> None:
        """What is asked for from now on runs where it is asked for."""
        self._pool.shutdown(wait=False)

    def _run_waiting(self) -> None:
        while self._waiting:
            try:
                function, done = self._waiting.popleft()
            except IndexError:  # after ``close`` there may be several threads
                return
            try:
                done.set_result(function())
            except Exception as error:
                done.set_exception(error)


def index_of(head: Head, data: bytes, breathe: Callable[[], None]) -> Index:
    """Of the lines of a manifest: by key, how many expire when, which keys are folded, and names of queries by path.

    ``breathe`` is called every now and then.
    """
    lines: dict[bytes, bytes] = {}
    folded: set[bytes] = set()
    query_names: dict[bytes, frozenset[str]] = {}
    expiries: Counter[int] = Counter()
    policies = head.policies
    for count, line in enumerate(item_lines(data), start=1):
        key = key_of(line)
        lines[key] = line
        policy = policies[route_of(line)]
        if policy.fold_case:
            folded.add(key)
        if policy.query:
            query_names[key.partition(b"?")[0]] = frozenset(policy.query)
        since = stale_since_of(line)
        expiries[(head.created if since is None else since) + policy.lifetime_seconds] += 1
        if count % LINES_A_BREATH == 0:
            breathe()
    return lines, expiries, folded, query_names


@contextmanager
def no_full_collection() -> Iterator[None]:
    """The garbage collector must not stop every thread to visit old and new pages together; younger objects it may."""
    if _thresholds:  # another reader is loading
        yield
        return
    young, middle, old = gc.get_threshold()
    _thresholds.append((young, middle, old))
    gc.set_threshold(young, middle, _NEVER)
    try:
        yield
    finally:
        collect_again()


def collect_again() -> None:
    if _thresholds:
        gc.set_threshold(*_thresholds.pop())


def cost_of(page: Page) -> int:
    """Bytes of memory that a page accounts for: its bodies and what is beside them."""
    return PAGE_OVERHEAD_BYTES + sum(len(body) for body in page.bodies.values())
