"""The file: bounded, least recently used out first, across restarts, and in the way of nobody when it is broken."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpath.asgi.last_good.answer_file import AnswerFile
from hotpath.asgi.last_good.answer_table import Asked, digest
from hotpath.asgi.last_good.caching import Stored
from hotpath.asgi.last_good.requests import Cookies
from hotpath.errors import DeclarationError
from hotpath.types import Header

NO_COOKIES = Cookies(())
MIB = 1024 * 1024


def asked(path: str = "/", *headers: Header, host: str = "example.org") -> Asked:
    return Asked(f"http://{host}{path}".encode(), headers, NO_COOKIES, {})


def stored(body: bytes = b"page", *headers: Header, received: float = 1e9, status: int = 200) -> Stored:
    return Stored(status, headers, body, received, received)


def put(file: AnswerFile, what: Asked, answer: Stored, vary: bytes = b"") -> None:
    file.put(what, answer, vary, empty_replaces=False)


def wait_for_writing(file: AnswerFile) -> None:
    file.purge_url(b"http://none.example/").result(30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.sqlite"


@pytest.fixture
def file(path: Path) -> Iterator[AnswerFile]:
    made = AnswerFile(path, 64 * MIB)
    yield made
    made.close()


def test_an_answer_comes_back_as_it_was(file: AnswerFile) -> None:
    answer = stored(bytes(range(256)), (b"x-a", b"\xff:1"), (b"x-a", b""), status=404)
    put(file, asked(), answer)
    assert file.find(asked()) == answer
    assert file.find(asked("/other")) is None


def test_it_is_there_after_a_restart(file: AnswerFile, path: Path) -> None:
    put(file, asked(), stored())
    file.close()
    again = AnswerFile(path, 64 * MIB)
    assert again.find(asked()) == stored()
    again.close()


def test_the_file_is_its_owners_alone(file: AnswerFile, path: Path) -> None:
    put(file, asked(), stored())
    wait_for_writing(file)
    for each in path.parent.iterdir():
        assert each.stat().st_mode & 0o077 == 0


def test_bytes_are_bounded_and_the_least_recently_used_go_first(path: Path) -> None:
    file = AnswerFile(path, 2 * MIB)
    put(file, asked("/first"), stored(b"1" * 50_000, received=1))
    put(file, asked("/used"), stored(b"2" * 50_000, received=2))
    for number in range(200):
        put(file, asked(f"/{number}"), stored(b"%d" % number * 15_000, received=10 + number))
        if number % 10 == 0:
            with_use = asked("/used", (b"x", b"%d" % number))
            file.touch(with_use, 10.5 + number)
            wait_for_writing(file)
    wait_for_writing(file)
    assert sum(each.stat().st_size for each in path.parent.iterdir()) <= 2 * MIB
    assert file.find(asked("/first")) is None
    assert file.find(asked("/199")) is not None
    assert file.find(asked("/0")) is None
    assert file.counters.evicted > 100
    file.close()


def test_an_answer_that_was_used_outlives_later_ones(path: Path) -> None:
    file = AnswerFile(path, 2 * MIB)
    for number in range(20):
        put(file, asked(f"/{number}"), stored(b"x" * 50_000, received=float(number)))
    file.touch(asked("/0"), 100.0)
    for number in range(20, 40):
        put(file, asked(f"/{number}"), stored(b"x" * 50_000, received=float(number)))
    wait_for_writing(file)
    assert file.find(asked("/0")) is not None
    assert file.find(asked("/1")) is None
    file.close()


def test_an_answer_that_is_too_large_is_not_kept(path: Path) -> None:
    file = AnswerFile(path, MIB)
    put(file, asked(), stored(b"x" * MIB))
    assert file.find(asked()) is None
    file.close()


def test_robots_txt_is_the_last_to_go_but_not_without_end(path: Path) -> None:
    file = AnswerFile(path, MIB)
    assert not file.has_robots()
    for number in range(100):
        put(file, asked("/robots.txt", host=f"h{number}.example"), stored(b"r", received=float(number)))
    for number in range(100):
        put(file, asked(f"/{number}"), stored(b"x" * 40_000, received=1000.0 + number))
    wait_for_writing(file)
    assert file.has_robots()
    assert file.find(asked("/robots.txt", host="h99.example")) is not None
    assert file.find(asked("/robots.txt", host="h0.example")) is None  # anybody can make up hosts
    file.close()


def test_a_smaller_limit_makes_the_file_smaller(file: AnswerFile, path: Path) -> None:
    for number in range(100):
        put(file, asked(f"/{number}"), stored(b"x" * 100_000, received=float(number)))
    file.close()
    assert path.stat().st_size > 8 * MIB
    smaller = AnswerFile(path, 2 * MIB)
    put(smaller, asked("/new"), stored(received=1000.0))
    wait_for_writing(smaller)
    smaller.close()
    assert path.stat().st_size < 2 * MIB


def test_a_limit_that_makes_no_sense_is_refused(path: Path) -> None:
    with pytest.raises(DeclarationError, match="1MiB or more"):
        AnswerFile(path, 1000)


def test_a_page_has_only_so_many_variants(file: AnswerFile) -> None:
    for number in range(70):
        header = (b"x", b"%d" % number)
        put(file, asked("/", header), stored(b"%d" % number, received=float(number)), b"x")
    assert file.find(asked("/", (b"x", b"69"))) is not None
    assert file.find(asked("/", (b"x", b"0"))) is None


def test_answers_go_by_url_and_by_tag(file: AnswerFile) -> None:
    put(file, asked("/a"), stored(b"1", (b"surrogate-key", b"red blue")))
    put(file, asked("/b"), stored(b"2", (b"cache-tag", b"blue, two words")))
    put(file, Asked(b"http://example.org/a\nx-forwarded-proto: https", (), NO_COOKIES, {}), stored(b"3"))
    assert file.purge_tag(b"two words").result(30) == 1
    assert file.find(asked("/b")) is None
    assert file.purge_url(b"http://example.org/a").result(30) == 2
    assert file.purge_tag(b"red").result(30) == 0


def test_the_same_answer_again_is_not_written_each_time(file: AnswerFile) -> None:
    for number in range(50):
        answer = stored(b"page", (b"date", b"%d" % number))
        file.put(asked(), answer, b"", empty_replaces=False)
    wait_for_writing(file)
    assert file.counters.stored == 1
    file.put(asked(), stored(b"new"), b"", empty_replaces=False)
    assert file.find(asked()) == stored(b"new")


def test_an_answer_that_was_removed_is_written_again(file: AnswerFile) -> None:
    for _ in range(2):
        file.put(asked(), stored(), b"", empty_replaces=False)
        assert file.find(asked()) is not None
        file.remove(b"http://example.org/")
        assert file.find(asked()) is None


def problems(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "hotpath"]


def use(file: AnswerFile, times: int = 5) -> None:
    """As requests would: nothing of it may raise or wait for long."""
    for number in range(times):
        began = time.monotonic()
        put(file, asked(f"/{number}"), stored())
        assert time.monotonic() - began < 0.5
        file.find(asked(f"/{number}"))


def test_garbage_in_place_of_the_file_begins_a_new_one(
    path: Path, file: AnswerFile, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(os.urandom(100_000))
    use(file)
    put(file, asked(), stored())
    assert file.find(asked()) == stored()
    assert len([text for text in problems(caplog) if "a new one begins" in text]) == 1
    assert path.with_name(f"{path.name}.broken").stat().st_size == 100_000


def test_a_file_that_is_overwritten_while_it_is_used(
    path: Path, file: AnswerFile, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(50):
        put(file, asked(f"/{number}"), stored(b"x" * 20_000))
    wait_for_writing(file)
    for each in (path, path.with_name(path.name + "-wal")):
        if each.exists():
            each.write_bytes(os.urandom(each.stat().st_size))
    answers = [file.find(asked(f"/{number}")) for number in range(50)]
    assert all(answer is None or answer == stored(b"x" * 20_000) for answer in answers)
    use(file)
    use(file)
    put(file, asked("/after"), stored())
    assert file.find(asked("/after")) == stored()
    assert len(problems(caplog)) <= 4


def test_bytes_that_changed_on_the_disk_are_not_served(path: Path, file: AnswerFile) -> None:
    put(file, asked(), stored(b"secret of the page " * 1000))
    file.close()
    data = path.read_bytes()
    assert data.count(b"secret") > 900
    path.write_bytes(data.replace(b"secret", b"public", 1))
    assert file.find(asked()) is None
    put(file, asked(), stored(b"new"))
    assert file.find(asked()) == stored(b"new")


def test_a_database_of_another_program_is_left_alone(
    path: Path, file: AnswerFile, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE orders (id INTEGER)")
    other.close()
    before = path.read_bytes()
    use(file)
    assert path.read_bytes() == before
    assert len(problems(caplog)) == 1
    assert all("another program" in text for text in problems(caplog))


@pytest.mark.parametrize("kind", ["directory", "parent"])
def test_a_place_that_cannot_be_written_to_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    (tmp_path / "x").write_text("") if kind == "parent" else (tmp_path / "x").mkdir()
    file = AnswerFile(tmp_path / "x" / "answers.sqlite" if kind == "parent" else tmp_path / "x", 64 * MIB)
    use(file)
    file.close()
    assert 1 <= len(problems(caplog)) <= 2


def test_a_locked_file_delays_nobody_and_is_used_again_afterwards(
    path: Path, file: AnswerFile, caplog: pytest.LogCaptureFixture
) -> None:
    put(file, asked("/before"), stored())
    wait_for_writing(file)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    put(file, asked("/locked"), stored())
    assert time.monotonic() - began < 0.5
    assert file.find(asked("/before")) == stored()  # readers do not wait for a writer
    other.execute("COMMIT")
    other.close()
    wait_for_writing(file)
    assert file.find(asked("/locked")) == stored()


@pytest.mark.slow
def test_what_must_go_is_not_used_while_it_cannot_be_removed(path: Path, file: AnswerFile) -> None:
    put(file, asked(), stored())
    put(file, asked("/other"), stored())
    wait_for_writing(file)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        removal = file.purge_url(b"http://example.org/")
        deadline = time.monotonic() + 30
        while file.counters.lost == 0 and time.monotonic() < deadline:
            put(file, asked("/filler"), stored())
            time.sleep(0.05)
        assert file.find(asked()) is None
        assert file.find(asked("/other")) == stored()
        assert not removal.done()
        other.execute("COMMIT")
    other.close()
    deadline = time.monotonic() + 30
    while not removal.done() and time.monotonic() < deadline:
        put(file, asked("/filler"), stored())
        time.sleep(0.1)
    assert removal.result(1) == 1
    assert file.find(asked()) is None


def test_what_waits_to_be_written_is_bounded(path: Path) -> None:
    file = AnswerFile(path, 256 * MIB)
    for number in range(100):
        put(file, asked(f"/{number}"), stored(b"x" * MIB))
    assert file.counters.lost > 0
    file.close()


def write_until_killed(path: str, name: str) -> None:
    logging.disable()
    file = AnswerFile(Path(path), 8 * MIB)
    number = 0
    while True:
        number += 1
        body = b"%s %d " % (name.encode(), number)
        put(file, asked(f"/{number % 50}"), stored(body * 500, received=float(number)))
        time.sleep(0.0005)


@pytest.mark.slow
def test_two_processes_share_the_file_and_are_killed_in_the_middle(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = multiprocessing.get_context("spawn")
    reader = AnswerFile(path, 8 * MIB)
    for round_number in range(5):
        processes = [
            context.Process(target=write_until_killed, args=(str(path), f"{round_number}{name}"), daemon=True)
            for name in "ab"
        ]
        for process in processes:
            process.start()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            for number in range(50):
                answer = reader.find(asked(f"/{number}"))
                assert answer is None or len(set(answer.body.split(b" ")[::2])) <= 2
            time.sleep(0.01)
        for process in processes:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        put(reader, asked("/mine"), stored(received=float(round_number)))
        assert reader.find(asked("/mine")) is not None
    reader.close()
    assert problems(caplog) == []
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.slow
def test_a_full_disk_is_said_once_and_costs_only_new_answers(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = fill_disk(tmp_path / "answers.sqlite")
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def fill_disk(path: Path) -> int:
    """In a process of its own, whose files may not grow beyond 300 KB. 0: as it should be."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("hotpath").addHandler(handler)
    file = AnswerFile(path, 64 * MIB)
    put(file, asked("/first"), stored(b"1" * 10_000))
    wait_for_writing(file)
    for number in range(30):
        put(file, asked(f"/{number}"), stored(os.urandom(50_000)))
        time.sleep(0.05)
    is_kept = file.find(asked("/first")) == stored(b"1" * 10_000)
    return 0 if is_kept and file.counters.lost and 1 <= len(lines) <= 2 else 2


def test_a_digest_is_256_bits() -> None:
    assert len(digest(b"")) == 32
