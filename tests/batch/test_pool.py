"""Whatever an item does, only that item fails, by name, and the run goes on."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotpath.batch.item import ItemBuilder
from hotpath.batch.limits import ItemLimits
from hotpath.batch.pool import Outcome, run_items
from hotpath.batch.run import build
from hotpath.errors import DeclarationError
from hotpath.pages.codings import available
from hotpath.pages.routes import PlannedItem
from hotpath.site import Hotpath
from hotpath.store.store import Store

MEBIBYTE = 1024 * 1024


@pytest.fixture
def hot(tmp_path: Path) -> Hotpath:
    return Hotpath(tmp_path / "hot")


def run(hot: Hotpath, **limits: Any) -> dict[str, Outcome]:
    options = {"memory_bytes": 96 * MEBIBYTE, "timeout_seconds": 20.0} | limits
    return {one.item.key: one for one in run_items(hot.plan(), ItemBuilder(None, None), ItemLimits(**options))}


def alone(hot: Hotpath, function: Callable[[], Any], **limits: Any) -> Outcome:
    """The outcome of ``function`` between two good items, which must not notice."""
    hot.route("/before")(lambda: ["good"])
    hot.route("/bad")(function)
    hot.route("/after")(lambda: ["good"])
    outcomes = run(hot, **limits)
    assert [*outcomes] == ["/before", "/bad", "/after"]
    for key in ("/before", "/after"):
        assert (outcomes[key].body, outcomes[key].error) == (b'["good"]', None)
    return outcomes["/bad"]


def problem(outcome: Outcome) -> str:
    assert outcome.error is not None
    assert outcome.body is None
    assert outcome.error.key == "/bad"
    return outcome.error.problem


def bytearrays() -> None:
    held = []
    while True:
        held.append(bytearray(MEBIBYTE))


def small_objects() -> None:
    held: list[dict[int, str]] = []
    while True:
        held.append({len(held): str(len(held))})


def mapped() -> None:
    held = []
    while True:
        held.append(mmap.mmap(-1, MEBIBYTE))  # shared memory, which no limit on data counts
        held[-1].write(b"x" * MEBIBYTE)


def by_children() -> None:
    code = "held = bytearray(60 << 20); import time; time.sleep(100)"  # each of them is below the limit
    for child in [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]:
        child.wait()


@pytest.mark.slow
@pytest.mark.parametrize("eat", [bytearrays, mapped, *(eat for eat in (small_objects, by_children))])
def test_one_that_eats_memory(hot: Hotpath, eat: Callable[[], Any]) -> None:
    said = problem(alone(hot, eat, timeout_seconds=60.0))
    assert said == "ran out of memory (each item may use 96.0 MiB)"


def stubborn() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pass


async def asleep() -> None:
    import asyncio

    await asyncio.sleep(100)


@pytest.mark.slow
@pytest.mark.parametrize("hang", [lambda: time.sleep(100), stubborn], ids=["sleep", "loop"])
def test_one_that_hangs_is_told_with_the_line(hot: Hotpath, hang: Callable[[], Any]) -> None:
    outcome = alone(hot, hang, timeout_seconds=0.5)
    said = problem(outcome)
    told = rf"did not finish within 0\.5 s; it was at ({re.escape(__file__)}:\d+) in (<lambda>|stubborn)"
    where = re.fullmatch(told, said)
    assert where is not None, said
    assert outcome.error is not None
    assert outcome.error.where == where[1]
    assert 0.5 <= outcome.seconds < 5


def test_one_that_hangs_in_an_event_loop(hot: Hotpath) -> None:
    # Where a coroutine waits no stack says; and the lines of the batch itself are not the item's.
    assert problem(alone(hot, asleep, timeout_seconds=0.5)) == "did not finish within 0.5 s"


def test_a_routes_own_timeout_comes_first(hot: Hotpath) -> None:
    hot.route("/slow", timeout="0.3s")(lambda: time.sleep(100))
    outcome = run(hot, timeout_seconds=60.0)["/slow"]
    assert outcome.error is not None
    assert outcome.error.problem.startswith("did not finish within 0.3 s")


def raises(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


def close_everything() -> list[int]:
    os.closerange(0, 1000)
    return [1]


def pipes() -> dict[int, int]:
    """Each open pipe of this process, by its inode."""
    found = {}
    for path in list(Path("/proc/self/fd").iterdir()):
        descriptor = int(path.name)
        with contextlib.suppress(OSError):
            state = os.fstat(descriptor)
            if stat.S_ISFIFO(state.st_mode):
                found[state.st_ino] = descriptor
    return found


# Not into those: pytest's own output may be one of them.
OLD_PIPES = set(pipes())


def write_to_new_pipes(data: bytes) -> None:
    for inode, descriptor in pipes().items():
        if inode not in OLD_PIPES and descriptor > 2:
            with contextlib.suppress(OSError):
                os.write(descriptor, data)


def write_junk() -> list[int]:
    write_to_new_pipes(b"\xff" * 100)
    return [1]


def promise() -> None:
    """The beginning of an answer, and then nothing."""
    write_to_new_pipes(b"\0\0\0\x40\0\0\1\0")
    time.sleep(100)


def unspeakable() -> None:
    raise ValueError("\udc80" + "x" * MEBIBYTE)


def print_for_ever() -> None:
    while True:
        os.write(2, b"x" * MEBIBYTE)


def fork_and_exit() -> None:
    """What it leaves behind keeps its pipes open."""
    if os.fork() == 0:
        time.sleep(100)
    os._exit(3)


ENDS = [
    (lambda: ctypes.string_at(0), "was killed by SIGSEGV"),
    (lambda: os._exit(0), "ended its process with status 0"),
    (lambda: os._exit(3), "ended its process with status 3"),
    (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL"),
    (lambda: sys.exit(3), "raised SystemExit: 3"),
    (raises(KeyboardInterrupt()), "raised KeyboardInterrupt"),
    (raises(ValueError("no data")), "ValueError: no data at "),
    (object, "$ is a object"),
    (lambda: b"x" * (40 * MEBIBYTE), "the body has 40.0 MiB, allowed are 32.0 MiB"),
    (close_everything, "ended its process with status"),
    (write_junk, "wrote to a descriptor that is not its own"),
    (promise, "did not finish within 2 s"),
    (unspeakable, "\\udc80xxxx"),
    (print_for_ever, "printed more than 64.0 MiB"),
    (fork_and_exit, "ended its process with status 3"),
]


@pytest.mark.parametrize(("end", "said"), ENDS, ids=[said for _, said in ENDS])
def test_one_that_ends_badly(hot: Hotpath, end: Callable[[], Any], said: str) -> None:
    started = time.monotonic()
    assert said in problem(alone(hot, end, timeout_seconds=2.0))
    assert time.monotonic() - started < 60


def test_a_crash_is_told_with_the_line(hot: Hotpath) -> None:
    outcome = alone(hot, crash)
    assert re.search(rf"; it was at {re.escape(__file__)}:\d+ in crash$", problem(outcome))
    assert "Fatal Python error: Segmentation fault" in outcome.output


def crash() -> None:
    ctypes.string_at(0)


def test_what_it_prints_is_kept_up_to_a_limit_and_fills_nothing(hot: Hotpath) -> None:
    def prints() -> list[int]:
        print("first line")
        os.write(1, b"\xff\xfe binary\n")
        for _ in range(50):
            sys.stderr.write("x" * MEBIBYTE)
        print(" last", end="")
        return [1]

    outcome = alone(hot, prints, output_bytes=1000)
    assert outcome.body == b"[1]"
    assert outcome.output.startswith("first line")
    assert re.search(r"xxx\n… 50\.0 MiB left out …\nx+ last$", outcome.output)
    assert len(outcome.output) < 1200


def test_each_item_has_what_it_printed_itself(hot: Hotpath) -> None:
    @hot.route("/{n}", each={"n": list(range(300))})
    def page(n: int) -> list[int]:
        if n % 3:
            print(n)
        if n % 5 == 0:
            os.write(2, b"%d" % -n)
        return [n]

    for n, outcome in enumerate(run(hot, workers=2).values()):
        assert outcome.output == (f"{n}\n" if n % 3 else "") + (str(-n) if n % 5 == 0 else "")


def test_what_it_starts_ends_with_it(hot: Hotpath, tmp_path: Path) -> None:
    def leaves() -> list[int]:
        threading.Thread(target=time.sleep, args=(100,)).start()
        return [subprocess.Popen(["sleep", "100"]).pid]

    outcome = alone(hot, leaves)
    assert outcome.body is not None
    pid = int(outcome.body.strip(b"[]"))
    await_gone(pid)


def await_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # dead; whoever adopts it will say so
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")


def test_a_function_that_forks_and_returns_twice_is_answered_once(hot: Hotpath) -> None:
    def forks() -> list[int]:
        os.fork()
        return [1]

    assert alone(hot, forks).body == b"[1]"


def test_nothing_of_it_reaches_the_batch(hot: Hotpath, tmp_path: Path) -> None:
    def changes() -> list[int]:
        os.chdir("/")
        os.environ["HOTPATH_LEFT"] = "1"
        os.umask(0o777)
        sys.path.insert(0, "/nowhere")
        return [len(sys.stdin.read())]

    before = (Path.cwd(), dict(os.environ), list(sys.path))
    assert alone(hot, changes).body == b"[0]"
    assert (Path.cwd(), dict(os.environ), list(sys.path)) == before
    mask = os.umask(0o022)
    os.umask(mask)
    assert mask != 0o777


def test_what_a_module_keeps_helps_the_next_item(hot: Hotpath) -> None:
    calls: list[int] = []

    @hot.route("/{n}", each={"n": [1, 2, 3]})
    def page(n: int) -> list[int]:
        calls.append(n)
        return list(calls)

    bodies = [one.body for one in run(hot).values()]
    assert bodies == [b"[1]", b"[1,2]", b"[1,2,3]"]
    assert calls == []


def test_several_workers_work_at_once_and_their_results_come_in_order(hot: Hotpath, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    @hot.route("/{n}", each={"n": list(range(8))})
    def page(n: int) -> list[int]:
        (marks / str(os.getpid())).touch()
        deadline = time.monotonic() + 10
        while len(list(marks.iterdir())) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        return [n]

    outcomes = run(hot, workers=3)
    assert [one.body for one in outcomes.values()] == [b"[%d]" % n for n in range(8)]
    assert len(list(marks.iterdir())) == 3


@pytest.mark.slow
def test_a_worker_that_grew_is_replaced_between_items(hot: Hotpath) -> None:
    held: list[bytes] = []

    @hot.route("/{n}", each={"n": list(range(4))})
    def page(n: int) -> list[int]:
        held.append(os.urandom(60 * MEBIBYTE))
        return [os.getpid()]

    outcomes = run(hot)
    assert [one.error for one in outcomes.values()] == [None] * 4
    assert len({one.body for one in outcomes.values()}) == 4
    assert all(60 * MEBIBYTE < one.peak_bytes < 600 * MEBIBYTE for one in outcomes.values())


@pytest.mark.slow
def test_time_that_the_batch_takes_between_items_is_nobodys_timeout(hot: Hotpath) -> None:
    @hot.route("/{n}", each={"n": list(range(4))})
    def page(n: int) -> bytes:
        return b'"%s"' % (b"x" * MEBIBYTE)  # more than a pipe holds: the worker waits for the batch

    seen = []
    for outcome in run_items(hot.plan(), ItemBuilder(None, None), ItemLimits(timeout_seconds=0.5)):
        time.sleep(0.6)
        seen.append(outcome.error)
    assert seen == [None] * 4


@pytest.mark.slow
def test_the_batch_itself_stays_small(tmp_path: Path) -> None:
    """In a process of its own, whose peak is nobody else's: everything above at once, and large bodies."""
    code = textwrap.dedent(
        f"""
        import ctypes, os, sys
        from hotpath.batch.item import ItemBuilder
        from hotpath.site import Hotpath
        from hotpath.batch.limits import ItemLimits
        from hotpath.batch.pool import run_items

        hot = Hotpath({str(tmp_path / "hot")!r})
        held = []

        @hot.route("/{{n}}", each={{"n": list(range(8))}})
        def page(n):
            if n == 0:
                while True:
                    held.append(bytearray(1 << 20))
            if n == 1:
                ctypes.string_at(0)
            if n == 2:
                for _ in range(1000):
                    sys.stdout.write("x" * (1 << 20))
            if n == 3:
                return b"x" * (100 << 20)
            return b'"' + b"x" * (30 << 20) + b'"'

        errors = [one.error for one in run_items(hot.plan(), ItemBuilder(None, None), ItemLimits())]
        print([error.problem for error in errors if error], file=sys.stderr)
        # Not ru_maxrss: over execve(2) it keeps what the parent held at fork(2).
        peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
        print([error is None for error in errors], int(peak.split()[1]) // 1024)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    good, _, peak = done.stdout.strip().rpartition(" ")
    assert good == str([False, False, False, False, True, True, True, True]), done.stderr
    assert int(peak) < 150


SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where pytest runs in the background of a shell
from hotpath.batch.item import ItemBuilder
from hotpath.site import Hotpath
from hotpath.store import Store
from hotpath.batch.limits import ItemLimits
from hotpath.batch.pool import run_items
hot = Hotpath(sys.argv[1])

@hot.route("/a")
def page():
    open(sys.argv[1] + ".pid", "w").write(str(__import__("os").getpid()))
    time.sleep(100)

with hot.store.locked():
    list(run_items(hot.plan(), ItemBuilder(None, None), ItemLimits(workers=2)))
"""


@pytest.fixture
def sleeping(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A batch in another process that holds the store's lock, and the pid of its worker."""
    root = tmp_path / "other"
    batch = subprocess.Popen([sys.executable, "-c", SLEEPER, str(root)], stderr=subprocess.DEVNULL)
    written = Path(f"{root}.pid")
    deadline = time.monotonic() + 20
    while not (written.exists() and written.read_text()):
        assert batch.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield batch, int(written.read_text())
    batch.kill()
    batch.wait(10)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_batch_and_so_does_its_lock(
    sleeping: tuple[subprocess.Popen[bytes], int], number: signal.Signals, tmp_path: Path
) -> None:
    batch, worker = sleeping
    batch.send_signal(number)
    batch.wait(10)
    await_gone(worker)
    with Store(tmp_path / "other").locked():
        pass


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"memory_bytes": 1024}, "16 MiB"),
        ({"timeout_seconds": 0}, "seconds"),
        ({"timeout_seconds": float("nan")}, "seconds"),
        ({"workers": 0}, "1 to 64"),
    ],
)
def test_limits_that_cannot_work_are_refused(limits: dict[str, Any], told: str) -> None:
    with pytest.raises(DeclarationError, match=told):
        ItemLimits(**limits)


def test_an_item_is_a_planned_item(hot: Hotpath) -> None:
    hot.route("/a")(lambda: [1])
    (outcome,) = run(hot).values()
    assert isinstance(outcome.item, PlannedItem)
    assert 0 <= outcome.seconds < 20


def test_what_others_left_behind_is_not_an_items_fault(hot: Hotpath) -> None:
    held: list[mmap.mmap] = []

    @hot.route("/{n}", each={"n": list(range(4))})
    def page(n: int) -> list[int]:
        if n < 2:
            # Below half of the budget in all: the worker stays. Not from the heap, where the batch may have left room.
            held.append(mmap.mmap(-1, 20 * MEBIBYTE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            held[-1].write(b"x" * len(held[-1]))
        else:
            bytearray(70 * MEBIBYTE)  # fits into a worker of its own, and not beside that
        return [len(held)]

    outcomes = run(hot)
    assert [one.error for one in outcomes.values()] == [None] * 4
    assert [one.body for one in outcomes.values()] == [b"[1]", b"[2]", b"[0]", b"[0]"]


def test_a_thread_that_an_item_left_kills_a_later_one_only_once(hot: Hotpath, tmp_path: Path) -> None:
    @hot.route("/{n}", each={"n": list(range(3))})
    def page(n: int) -> list[int]:
        with (tmp_path / f"calls-{n}").open("a") as file:
            file.write("x")
        if n == 0:
            threading.Timer(0.2, os._exit, (7,)).start()
        if n == 1:
            time.sleep(0.5)
        return [n]

    assert [one.error for one in run(hot).values()] == [None] * 3
    assert [(tmp_path / f"calls-{n}").read_text() for n in range(3)] == ["x", "xx", "x"]


@pytest.mark.slow
def test_time_that_a_thread_of_before_takes_is_not_an_items_fault(hot: Hotpath) -> None:
    left: list[threading.Thread] = []

    @hot.route("/{n}", each={"n": list(range(3))})
    def page(n: int) -> list[int]:
        if n == 0:
            left.append(threading.Thread(target=time.sleep, args=(100,), daemon=True))
            left[0].start()
        elif left:
            time.sleep(100)  # as long as that thread takes all the time
        return [n]

    assert [one.error for one in run(hot, timeout_seconds=3.0).values()] == [None] * 3


def lower_the_limits() -> list[int]:
    for name in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
        resource.setrlimit(name, (3, 3))
    return [1]


def leave_an_alarm() -> list[int]:
    def ring(*_: object) -> None:
        raise ValueError("too late")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    return [1]


@pytest.mark.parametrize("leave", [lower_the_limits, leave_an_alarm])
def test_what_an_item_took_from_its_process_the_next_one_has(
    hot: Hotpath, leave: Callable[[], list[int]], tmp_path: Path
) -> None:
    hot.route("/first")(leave)

    @hot.route("/second")
    def second() -> list[str]:
        (tmp_path / "written").write_text("more than three bytes")
        time.sleep(0.5)
        return [(tmp_path / "written").read_text()]

    assert [one.error for one in run(hot).values()] == [None] * 2


def test_an_item_that_kills_a_used_worker_is_repeated_once(hot: Hotpath, tmp_path: Path) -> None:
    @hot.route("/{n}", each={"n": list(range(3))})
    def page(n: int) -> list[int]:
        with (tmp_path / f"calls-{n}").open("a") as file:
            file.write("x")
        if n == 1:
            os._exit(3)
        return [n]

    assert [one.error is None for one in run(hot).values()] == [True, False, True]
    assert [(tmp_path / f"calls-{n}").read_text() for n in range(3)] == ["x", "xx", "x"]


def test_a_worker_that_left_processes_or_a_closed_stdout_is_not_used_again(hot: Hotpath) -> None:
    @hot.route("/{n}", each={"n": list(range(4))})
    def page(n: int) -> list[int]:
        print("here")
        if n == 0:
            subprocess.Popen(["sleep", "100"])
        if n == 1:
            sys.stdout.close()
        if n == 2:
            os.close(1)
        return [os.getpid()]

    outcomes = [*run(hot).values()]
    assert [one.error for one in outcomes] == [None] * 4
    assert [one.output for one in outcomes] == ["here\n"] * 4
    assert len({one.body for one in outcomes}) == 4


def leaves_the_group() -> list[int]:
    return [subprocess.Popen(["sleep", "100"], start_new_session=True).pid]


def makes_a_daemon() -> list[int]:
    shell = ["sh", "-c", "sleep 100 >/dev/null 2>&1 & echo $!"]  # whose own parent ends at once
    return [int(subprocess.run(shell, capture_output=True, check=True, start_new_session=True).stdout)]


@pytest.mark.parametrize("leave", [leaves_the_group, makes_a_daemon])
def test_a_process_that_left_the_group_ends_with_its_worker(hot: Hotpath, leave: Callable[[], list[int]]) -> None:
    outcome = alone(hot, leave)
    assert outcome.body is not None
    await_gone(int(outcome.body.strip(b"[]")))


@pytest.mark.slow
def test_a_process_that_left_the_group_ends_with_an_item_that_hangs(hot: Hotpath, tmp_path: Path) -> None:
    def hang() -> None:
        (tmp_path / "pid").write_text(str(leaves_the_group()[0]))
        time.sleep(100)

    assert "did not finish within 2 s" in problem(alone(hot, hang, timeout_seconds=2.0))
    await_gone(int((tmp_path / "pid").read_text()))


# Run at the end of a script. Not ru_maxrss: over execve(2) it keeps what the parent held at fork(2).
TELL_PEAK = """
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(count, int(peak.split()[1]) // 1024)
"""


def peak_mib(script: str) -> tuple[int, int]:
    """What a script counted, and the most memory that its own process had."""
    code = textwrap.dedent(script) + TELL_PEAK
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    count, peak = map(int, done.stdout.split())
    return count, peak


@pytest.mark.slow
def test_many_workers_with_large_bodies_wait_in_their_pipes(tmp_path: Path) -> None:
    """The first item is slow, so that all others are done before it; and everybody returns 30 MiB."""
    count, peak = peak_mib(
        f"""
        import time
        from hotpath.batch.item import ItemBuilder
        from hotpath.site import Hotpath
        from hotpath.batch.limits import ItemLimits
        from hotpath.batch.pool import run_items

        hot = Hotpath({str(tmp_path / "hot")!r})

        @hot.route("/{{n}}", each={{"n": list(range(24))}})
        def page(n):
            if n in (0, 5):
                time.sleep(1.5)
            return b'"' + b"x" * (30 << 20) + b'"'

        count = 0
        for one in run_items(hot.plan(), ItemBuilder(None, None), ItemLimits(workers=4, timeout_seconds=5)):
            assert one.error is None, one.error
            assert one.item.key == f"/{{count}}"
            count += 1
        """
    )
    assert count == 24
    assert peak < 150


@pytest.mark.slow
def test_large_pages_are_compressed_in_the_workers(tmp_path: Path) -> None:
    """Pages of 30 MiB that compress to half of it: the encoders need as much again, and that in the workers."""
    count, peak = peak_mib(
        f"""
        import random
        from hotpath import Hotpath
        from hotpath.batch import build
        from hotpath.batch.limits import ItemLimits

        hot = Hotpath({str(tmp_path / "hot")!r})

        @hot.route("/{{n}}", each={{"n": list(range(3))}})
        def page(n):
            return b'"' + random.Random(n).randbytes(15 << 20).hex().encode() + b'"'

        report = build(hot, limits=ItemLimits(workers=2))
        assert not report.failures, report.failures
        count = report.published.bytes >> 20
        """
    )
    assert count > 200  # they were encoded: the pages themselves are 90
    assert peak < 150


def test_what_was_encoded_comes_with_the_page_and_what_did_not_change_is_not_encoded(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot")

    @hot.route("/{n}", each={"n": [1, 2]})
    def page(n: int) -> list[int]:
        return [*range(1000 * n)]

    build(hot)
    published = hot.store.read_manifest(1)
    codings = available()
    (first, second) = hot.plan()
    fresh, same, without = (
        list(run_items([first, second], ItemBuilder(before, None, given), ItemLimits()))
        for before, given in ((None, codings), (published, codings), (None, None))
    )
    for one in fresh:
        assert one.built is not None
        assert one.built.encoded is not None
        assert list(one.built.encoded) == [coding.name for coding in codings]
        assert {coding.decode(one.built.encoded[coding.name]) for coding in codings} == {one.body}
    for one in (*same, *without):
        assert one.built is not None
        assert one.built.encoded is None


@pytest.mark.slow
def test_what_a_forked_child_shares_is_counted_once(hot: Hotpath) -> None:
    def forks() -> list[int]:
        held = bytearray(60 * MEBIBYTE)
        held[::4096] = b"x" * len(held[::4096])
        child = os.fork()
        if child == 0:
            time.sleep(60)
        time.sleep(3.5)  # looked at three times
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return [1]

    assert alone(hot, forks, memory_bytes=96 * MEBIBYTE).body == b"[1]"


def test_a_closed_iterator_ends_its_workers(hot: Hotpath) -> None:
    @hot.route("/{n}", each={"n": list(range(100))})
    def page(n: int) -> list[int]:
        return [os.getpid()]

    outcomes = run_items(hot.plan(), ItemBuilder(None, None), ItemLimits(workers=2))
    body = next(outcomes).body
    assert body is not None
    pid = int(body.strip(b"[]"))
    assert Path(f"/proc/{pid}").exists()
    assert isinstance(outcomes, Generator)
    outcomes.close()
    assert not Path(f"/proc/{pid}").exists()
