"""The demo: what it says is what was measured, it fails when its claim is untrue, and it leaves nothing behind."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hotpath.cli import demo
from hotpath.cli.demo_screen import Row, Screen, problems
from hotpath.ops.crawler import Crawler, PageAnswers, percentile
from hotpath.ops.http import Reply

# What a demo that was started may take before it is killed.
SECONDS = 120.0

SP500 = Path(__file__).resolve().parents[3] / "shared" / "data" / "sp500-financials.csv"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made, so that a test can see whether one was left."""
    path = tmp_path / "scratch"
    path.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(path))
    monkeypatch.setattr(demo, "ROUNDS", 3)
    monkeypatch.setattr(demo, "KILLS", 1)
    return path


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def server_of(told: str) -> int:
    found = re.search(r"\(process (\d+),", told)
    assert found, told
    return int(found[1])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def rows_of(told: str) -> dict[str, list[str]]:
    """path → the other words of its line in the table."""
    lines = told[told.index(" path  ") :].partition("\n\n")[0].splitlines()[1:]
    return {line.split()[0]: line.split()[1:] for line in lines}


@pytest.mark.slow
def test_hot_pages_stand_cold_pages_fail_and_nothing_stays(out: io.StringIO, scratch: Path) -> None:
    code = demo.run(tickers=60, out=out)
    told = out.getvalue()
    assert code == 0, told
    rows = rows_of(told)
    hot = {path: words for path, words in rows.items() if words[0] == "hot"}
    cold = {path: words for path, words in rows.items() if words[0] == "cold"}
    assert len(hot) == 15
    assert {"/", "/robots.txt", "/sitemap.xml", "/rankings/NYSE/pe_ratio"} <= set(hot)
    assert {(*words[1:7], *words[9:]) for words in hot.values()} == {("200", "gen", "1") * 4}
    assert len(cold) == 4
    assert {(*words[1:5], *words[7:]) for words in cold.values()} == {
        ("200", "app", "200", "kept", "200", "kept", "200", "app")
    }
    assert len(killed := re.findall(r"^\$ kill -9 (\d+)", told, re.MULTILINE)) == 1
    assert not alive(int(killed[0]))
    assert re.search(r"the app without its database, \d times: sqlite3.OperationalError", told), "then it is left alone"
    assert re.search(r"a cold page that nobody had asked for, without the database: 50[03]", told)
    assert "304 without a body for 15 of 15 hot pages" in told
    assert "OK: 15 of 15 hot pages stayed at 200" in told
    assert list(scratch.iterdir()) == []
    assert not alive(server_of(told))


@pytest.mark.slow
def test_a_real_table_with_gaps_is_kept_with_its_database(out: io.StringIO, scratch: Path, tmp_path: Path) -> None:
    if not SP500.exists():
        pytest.skip("the real table is not here: ../shared/data/sp500-financials.csv")
    kept = tmp_path / "kept"
    code = demo.run(csv=SP500, market="SP500", keep=kept, out=out)
    told = out.getvalue()
    assert code == 0, told
    assert "503 valuations of 503 stocks" in told
    assert rows_of(told)["/rankings/SP500/pe_ratio"][:2] == ["hot", "200"]
    assert (kept / "marketpulse.db").exists(), "the database is brought back after the attack"
    assert (kept / "marketpulse.py").exists()
    page = (kept / "var" / "hot" / "generations" / "1" / "files" / "rankings" / "SP500" / "market_cap.json").read_text()
    assert '"pe_ratio":null' in page
    assert '"pe_ratio":0,' not in page
    assert list(scratch.iterdir()) == []
    assert not alive(server_of(told))

    with pytest.raises(demo.DemoError, match="is not empty") as caught:
        demo.run(tickers=60, keep=kept, out=out)
    assert caught.value.exit_code == 2


@pytest.mark.slow
def test_hot_pages_that_were_never_published_are_exit_code_1(
    out: io.StringIO, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo.Workplace, "build", lambda self: None)
    code = demo.run(tickers=60, out=out)
    told = out.getvalue()
    assert code == 1, told
    assert rows_of(told)["/sitemap.xml"][-4:] == ["200", "kept", "200", "app"]
    assert "FAILED: /sitemap.xml is hot and was answered by the app, not from a generation" in told
    assert "OK:" not in told
    assert list(scratch.iterdir()) == []
    assert not alive(server_of(told))


def test_data_that_cannot_be_used_leave_nothing_behind(out: io.StringIO, scratch: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("Symbol,Name\nA,B\n")
    with pytest.raises(demo.DemoError, match="lacks 3 of the columns") as caught:
        demo.run(csv=bad, keep=tmp_path / "kept", out=out)
    assert "the columns found are 'Symbol', 'Name'" in str(caught.value)
    assert caught.value.exit_code == 1
    assert list(scratch.iterdir()) == []
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_database_that_someone_left_beside_the_example_is_not_taken(
    out: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = tmp_path / "used"
    shutil.copytree(demo.example_directory(), used)
    (used / demo.DATABASE).write_text("theirs")
    monkeypatch.setattr(demo, "example_directory", lambda: used)
    root = tmp_path / "root"
    root.mkdir()
    demo.Workplace(root, Screen(out)).make_data(["--tickers", "10", "--days", "1"])
    assert {path.name for path in root.iterdir()} == {demo.DATABASE, "marketpulse.py", "make_data.py", "README.md"}
    with closing(sqlite3.connect(root / demo.DATABASE)) as connection:
        assert connection.execute("SELECT count(*) FROM stocks").fetchone() == (10,)


@pytest.mark.slow
def test_a_table_may_have_tickers_with_slashes_and_a_market_that_looks_like_an_option(
    out: io.StringIO, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("Symbol,Name,Market Cap,P/E,P/B\nBRK/B,Häagen & <b>,1000,9,1.2\nA&B,,20,,\n", "utf-8")
    code = demo.run(csv=table, market="-x", out=out)
    assert code == 0, out.getvalue()
    rows = rows_of(out.getvalue())
    assert rows["/stocks/BRK%2FB"][:2] == ["cold", "200"]
    assert rows["/rankings/-x/pe_ratio"][:2] == ["hot", "200"]


@pytest.mark.slow
def test_a_server_that_does_not_start_is_told_with_its_last_words(
    out: io.StringIO, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "APP", "marketpulse:nothing")
    with pytest.raises(demo.DemoError, match="nothing"):
        demo.run(tickers=60, out=out)
    assert list(scratch.iterdir()) == []


def test_missing_extras_are_one_line_with_what_to_install(
    out: io.StringIO, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(demo.DemoError) as caught:
        demo.run(out=out)
    assert str(caught.value) == "the demo needs aiohttp, fastapi, uvicorn: pip install 'asgi-hotpath[demo]'"
    assert caught.value.exit_code == 2
    assert list(scratch.iterdir()) == []


def test_importing_the_demo_needs_no_extra() -> None:
    code = "import sys, hotpath.cli.demo; print(*{'rich', 'click', 'fastapi', 'uvicorn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@contextmanager
def ending(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Whatever fails, the demo ends, and its server with it; one that hangs is killed, so that nobody waits for it."""
    killer = threading.Timer(SECONDS, process.kill)
    killer.start()
    with process:
        try:
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            killer.cancel()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_serve_runs_until_a_signal_and_then_ends_its_server(number: signal.Signals, code: int, scratch: Path) -> None:
    # Ignored signals are inherited: SIGINT where pytest runs in the background of a shell, SIGHUP under nohup.
    listen = "import signal as s; s.signal(s.SIGINT, s.default_int_handler); s.signal(s.SIGHUP, s.SIG_DFL)"
    program = f"{listen}; import sys; from hotpath.cli import demo; sys.exit(demo.run(tickers=60, serve=True))"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    with ending(process):
        told = ""
        assert process.stdout is not None
        for line in process.stdout:
            told += line
            if line.startswith("Ctrl-C"):
                break
        server = server_of(told)
        assert alive(server), told
        port = re.findall(r"hot +http://127\.0\.0\.1:(\d+)/robots\.txt", told)[0]
        with closing(Crawler(int(port))) as crawler:
            assert crawler.get("/").status == 200
            assert crawler.get("/search?q=never").status in (500, 503)
        process.send_signal(number)
        assert process.wait(20) == code
    assert not alive(server)
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_a_signal_while_the_data_are_made_leaves_nothing(scratch: Path) -> None:
    program = "import sys; from hotpath.cli import demo; sys.exit(demo.run(tickers=50_000))"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(scratch)}
    )
    with ending(process):
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("$ python make_data.py"):
                break
        deadline = time.monotonic() + 10
        while not (unfinished := [*scratch.glob("*/marketpulse.db.*.tmp")]) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert len(unfinished) == 1
    assert not alive(int(unfinished[0].suffixes[-2][1:])), "its name holds the process that was writing it"
    assert list(scratch.iterdir()) == []


def test_a_server_that_will_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "STOP_SECONDS", 0.1)
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with ending(process):
        assert process.stdout is not None
        process.stdout.readline()
        demo.end_server(process)
        assert process.returncode == -signal.SIGKILL


# --- the verdict ---


def seen(*answers: tuple[int, str | None, bytes]) -> PageAnswers:
    found = PageAnswers()
    for status, generation, body in answers:
        headers = {} if generation is None else {"x-hotpath-generation": generation}
        if generation == "kept":
            headers = {"cache-status": "hotpath; hit; ttl=-1; detail=stale-if-error"}
        found.add(Reply(status, headers, body, 0.001))
    return found


GOOD = (200, "1", b"page")


APP = (200, None, b"page")
GEN = ("200", "gen", "1")
BROKEN = (500, None, b"")
KEPT = (200, "kept", b"page")


@pytest.mark.parametrize(
    ("hot", "before", "killed", "broken", "after", "problem"),
    [
        (True, [GOOD, GOOD], [GOOD, GOOD], [GOOD], [GOOD], None),
        (True, [GOOD], [(200, "2", b"page")], [GOOD], [GOOD], None),
        (True, [GOOD, (503, None, b"")], [GOOD], [GOOD], [GOOD], "/p is hot and was 503 while all was well"),
        (True, [APP], [GOOD], [GOOD], [GOOD], "answered by the app, not from a generation, while all was well"),
        (True, [GOOD], [GOOD, BROKEN], [GOOD], [GOOD], "is hot and was 500 while the app was killed"),
        (True, [GOOD], [GOOD, (0, None, b"")], [GOOD], [GOOD], "is hot and was no answer while the app was killed"),
        (True, [GOOD], [GOOD], [GOOD, BROKEN], [GOOD], "is hot and was 500 without its backend"),
        (True, [GOOD], [GOOD], [GOOD], [BROKEN], "is hot and was 500 afterwards"),
        (True, [GOOD], [GOOD, APP], [GOOD], [GOOD], "answered by the app, not from a generation, while the app"),
        (True, [GOOD], [GOOD], [APP], [GOOD], "answered by the app, not from a generation, without its backend"),
        (True, [GOOD], [(200, "1", b"other")], [GOOD], [GOOD], "changed its bytes"),
        (True, [GOOD], [GOOD], [GOOD], [(200, "1", b"other")], "changed its bytes"),
        (True, [GOOD, (200, "1", b"other")], [GOOD], [GOOD], [GOOD], "changed its bytes"),
        (False, [APP], [APP], [KEPT], [APP], None),
        (False, [APP], [APP, KEPT], [KEPT, KEPT], [APP], None),
        (False, [(404, None, b"a")], [APP], [KEPT], [APP], "/p was 404 while all was well"),
        (False, [APP], [APP, (502, None, b"")], [KEPT], [APP], "was 502 while the app was killed"),
        (False, [APP], [APP], [KEPT], [BROKEN], "was 500 afterwards"),
        (False, [APP], [APP], [KEPT, BROKEN], [APP], "did not get its last good answer"),
        (False, [APP], [APP], [KEPT, APP], [APP], "did not get its last good answer"),
    ],
)
def test_problems_are_found(
    hot: bool,
    before: list[tuple[int, str | None, bytes]],
    killed: list[tuple[int, str | None, bytes]],
    broken: list[tuple[int, str | None, bytes]],
    after: list[tuple[int, str | None, bytes]],
    problem: str | None,
) -> None:
    found = problems([Row("/p", hot, seen(*before), seen(*killed), seen(*broken), seen(*after))])
    if problem is None:
        assert found == []
    else:
        assert len(found) == 1
        assert problem in found[0]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([1.0], 0.99, 1.0), ([3.0, 1.0, 2.0], 0.5, 2.0), ([float(n) for n in range(1, 101)], 0.99, 99.0)],
)
def test_percentile_is_the_nearest_rank(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_drawn_table_and_a_pipe_plain_lines(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    good, app = seen(GOOD), seen(APP)
    rows = [Row("/[a]", True, good, good, good, good), Row("/c", False, app, app, seen((0, None, b"")), app)]
    terminal = FakeTerminal()
    for screen in (Screen(terminal), Screen(out)):
        screen.table(rows)
        screen.verdict(False, "why")
    assert "│ /[a]" in terminal.getvalue()
    assert rows_of(out.getvalue().replace("FAILED", "\nFAILED")) == {
        "/[a]": ["hot", *GEN, *GEN, "1.0", "ms", *GEN, *GEN],
        "/c": ["cold", "200", "app", "200", "app", "1.0", "ms", "no", "answer", "200", "app"],
    }
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().endswith("FAILED: why\n")


# --- the crawler ---


@pytest.fixture
def closing_server() -> Iterator[int]:
    """Says it keeps the connection, and closes it after each answer to ``/fails``; never answers ``/hangs``."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while request := connection.recv(65536):
                    if b"/hangs" in request:
                        break
                    status = b"500 No" if b"/fails" in request else b"200 OK"
                    connection.sendall(b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\nhi")
                    if b"/fails" in request:
                        break

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_a_request_on_a_connection_closed_meanwhile_is_sent_again_once(closing_server: int) -> None:
    with closing(Crawler(closing_server)) as crawler:
        found = crawler.measure(["/fails", "/stands"], 3)
        assert found["/fails"].statuses == [500, 500, 500]
        assert found["/stands"].statuses == [200, 200, 200]
        assert crawler.reconnections == 3


def test_a_page_without_any_answer_is_asked_once(closing_server: int) -> None:
    with closing(Crawler(closing_server)) as crawler:
        found = crawler.measure(["/hangs", "/stands"], 3)
        assert found["/hangs"].statuses == [0]
        assert found["/stands"].statuses == [200, 200, 200]
