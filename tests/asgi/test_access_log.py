"""What an observer gets of each request, and that the access line never costs an answer."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from hotpath.asgi.access_log import MAX_PATH, AccessLog, HotpathRequest, Watch
from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.run import build
from hotpath.errors import DeclarationError
from hotpath.guard.hard_limit import HardLimit
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.testing import Response, asgi_get
from tests.guard.fakes import Rigged
from tests.project.test_docs import split

pytestmark = pytest.mark.usefixtures("items_in_this_process")

SECONDS = 20.0


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] == "/raises":
        raise RuntimeError("planted")
    await send({"type": "http.response.start", "status": 418, "headers": [(b"content-encoding", b"br")]})
    await send({"type": "http.response.body", "body": b"ap", "more_body": True})
    await send({"type": "http.response.body", "body": b"p"})


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[Hotpath]:
    hot = Hotpath(tmp_path / "hot", redirect_slashes=True)
    hot.route("/hot/{n}", each={"n": ["a", "b c"]})(lambda n: {"n": n, "fill": "x" * 2000})
    build(hot)
    yield hot
    reader_of(hot).close()


@pytest.fixture
def seen() -> list[HotpathRequest]:
    return []


@pytest.fixture
def rigged(monkeypatch: pytest.MonkeyPatch) -> Rigged:
    rigged = Rigged()
    monkeypatch.setattr(type(rigged.guard), "is_started", True)
    monkeypatch.setattr(rigged.guard, "start", lambda key, loop=None: None)
    return rigged


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """What is logged below ``hotpath``, from INFO on for the access line."""
    kept = Kept()
    caplog.set_level(logging.INFO, logger="hotpath.access")
    logging.getLogger("hotpath").addHandler(kept)
    yield kept.records
    logging.getLogger("hotpath").removeHandler(kept)


def ask(middleware: Any, target: str, **options: Any) -> Response:
    return asyncio.run(asgi_get(middleware, target, **options))


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, "not within the deadline"
        time.sleep(0.005)


# (request, what is said of it): result, status, generation, coding
REQUESTS: dict[str, tuple[str, dict[str, Any], tuple[object, ...]]] = {
    "hit": ("/hot/a", {}, ("hit", 200, 1, "identity")),
    "another spelling": ("/hot/b%20c?", {}, ("hit", 200, 1, "identity")),
    "gzip": ("/hot/a", {"headers": [(b"accept-encoding", b"gzip")]}, ("hit", 200, 1, "gzip")),
    "HEAD": ("/hot/a", {"method": "HEAD"}, ("hit", 200, 1, "identity")),
    "304": ("/hot/a", {"headers": [(b"if-none-match", b"*")]}, ("not_modified", 304, 1, "identity")),
    "206": ("/hot/a", {"headers": [(b"range", b"bytes=0-9")]}, ("hit", 206, 1, "identity")),
    "416": ("/hot/a", {"headers": [(b"range", b"bytes=99999-")]}, ("refused", 416, 1, "identity")),
    "412": ("/hot/a", {"headers": [(b"if-match", b'"x"')]}, ("refused", 412, 1, "identity")),
    "308": ("/hot/a/", {}, ("redirect", 308, None, "identity")),
    "miss": ("/cold?q=secret", {}, ("miss", 418, None, "br")),
    "POST": ("/hot/a", {"method": "POST"}, ("miss", 418, None, "br")),
    "mounted": ("/sub/hot/a", {"root_path": "/sub"}, ("hit", 200, 1, "identity")),
}


@pytest.mark.parametrize(("target", "options", "said"), REQUESTS.values(), ids=REQUESTS)
def test_each_request_is_one_event_and_its_answer_the_same_as_without(
    hot: Hotpath, seen: list[HotpathRequest], target: str, options: dict[str, Any], said: tuple[object, ...]
) -> None:
    before = time.time()
    answer = ask(HotpathMiddleware(app, hot=hot, observe=seen.append), target, **options)
    (event,) = seen
    assert (event.result, event.status, event.generation, event.coding) == said
    assert event.body_bytes == len(answer.body)
    assert (event.method, event.path) == (options.get("method", "GET"), target.partition("?")[0])
    assert before <= event.time <= time.time()
    assert 0 < event.microseconds < SECONDS * 1e6
    assert list(event.headers) == options.get("headers", [])
    unobserved = ask(HotpathMiddleware(app, hot=hot), target, **options)
    assert (answer.status, answer.body) == (unobserved.status, unobserved.body)
    assert [pair for pair in answer.headers if pair[0] != b"cache-status"] == [
        pair for pair in unobserved.headers if pair[0] != b"cache-status"
    ]


def test_what_the_client_accepts_is_passed_on_to_the_answer_it_gets(hot: Hotpath, seen: list[HotpathRequest]) -> None:
    answer = ask(
        HotpathMiddleware(app, hot=hot, observe=seen.append), "/hot/a", headers=[(b"accept-encoding", b"gzip")]
    )
    assert 0 < seen[0].body_bytes == len(answer.body) < 500


def test_bypass_and_bytes_that_are_gone_and_an_app_that_raises(
    tmp_path: Path, seen: list[HotpathRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    hot = Hotpath(tmp_path / "hot", max_body_bytes=1)
    hot.route("/{n}", each={"n": ["a", "b"]})(lambda n: {"n": n})
    build(hot)
    middleware = HotpathMiddleware(
        app, hot=hot, bypass=lambda scope: scope["query_string"] == b"own", observe=seen.append
    )
    assert ask(middleware, "/a?own").status == 418
    monkeypatch.setattr(reader_of(hot), "load_page", lambda key: None)
    assert ask(middleware, "/b").status == 418
    with pytest.raises(RuntimeError, match="planted"):
        ask(middleware, "/raises")
    assert [(event.result, event.status) for event in seen] == [("bypass", 418), ("unreadable", 418), ("error", None)]
    reader_of(hot).close()


def test_what_the_guard_refuses_is_shed(hot: Hotpath, rigged: Rigged, seen: list[HotpathRequest]) -> None:
    middleware = HotpathMiddleware(app, hot=hot, guard=rigged.guard, observe=seen.append)
    ask(middleware, "/cold")
    rigged.see(0.95)
    ask(middleware, "/cold")
    ask(middleware, "/hot/a")
    assert [(event.result, event.status) for event in seen] == [("miss", 418), ("shed", 503), ("hit", 200)]
    assert rigged.guard.admission.in_flight == 0


def test_a_hot_page_whose_bytes_are_gone_is_not_shed(
    tmp_path: Path, rigged: Rigged, seen: list[HotpathRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    hot = Hotpath(tmp_path / "hot", max_body_bytes=1)
    hot.route("/{n}", each={"n": ["a", "b"]})(lambda n: {"n": n})
    build(hot)
    middleware = HotpathMiddleware(app, hot=hot, guard=rigged.guard, observe=seen.append)
    assert ask(middleware, "/a").status == 200
    rigged.see(0.95)
    monkeypatch.setattr(reader_of(hot), "load_page", lambda key: None)
    assert ask(middleware, "/b").status == 418
    assert [event.result for event in seen] == ["hit", "unreadable"]
    reader_of(hot).close()


def test_a_request_that_memory_ran_out_for_is_shed_too(
    hot: Hotpath, rigged: Rigged, seen: list[HotpathRequest]
) -> None:
    class Reserve(HardLimit):
        def __init__(self) -> None:
            return None

        def open_reserve(self) -> None:
            return None

    async def greedy(scope: Any, receive: Any, send: Any) -> None:
        raise MemoryError

    rigged.guard.hard_limit = Reserve()
    assert ask(HotpathMiddleware(greedy, hot=hot, guard=rigged.guard, observe=seen.append), "/cold").status == 503
    assert (seen[0].result, seen[0].status) == ("shed", 503)


def test_a_client_that_is_gone_is_told_of_and_its_error_stays(hot: Hotpath, seen: list[HotpathRequest]) -> None:
    async def main() -> None:
        async def send(message: Any) -> None:
            raise OSError("client disconnected")

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/hot/a",
            "raw_path": b"/hot/a",
            "root_path": "",
            "query_string": b"",
            "headers": [],
        }
        await HotpathMiddleware(app, hot=hot, observe=seen.append)(scope, None, send)  # type: ignore[arg-type]

    with pytest.raises(OSError, match="client disconnected"):
        asyncio.run(main())
    assert [event.result for event in seen] == ["hit"]


def test_only_http_is_observed(hot: Hotpath, seen: list[HotpathRequest]) -> None:
    middleware = HotpathMiddleware(app, hot=hot, observe=seen.append)
    for kind in ("lifespan", "websocket"):
        asyncio.run(middleware({"type": kind}, None, None))  # type: ignore[arg-type]
    assert seen == []


def test_an_event_cannot_be_changed(hot: Hotpath, seen: list[HotpathRequest]) -> None:
    ask(HotpathMiddleware(app, hot=hot, observe=seen.append), "/hot/a")
    with pytest.raises(FrozenInstanceError):
        seen[0].status = 500  # type: ignore[misc]


def test_an_observer_that_raises_breaks_no_answer_and_is_reported_once(
    hot: Hotpath, caplog: pytest.LogCaptureFixture
) -> None:
    def observe(request: HotpathRequest) -> None:
        raise ZeroDivisionError("planted")

    middleware = HotpathMiddleware(app, hot=hot, observe=observe)
    assert [ask(middleware, target).status for target in ("/hot/a", "/cold", "/hot/a")] == [200, 418, 200]
    with pytest.raises(RuntimeError, match="planted"):
        ask(middleware, "/raises")
    assert middleware.observer_errors == 4
    (told,) = [record for record in caplog.records if record.name == "hotpath"]
    assert told.exc_info is not None
    assert "observe=" in told.getMessage()


def test_an_observer_that_cannot_work_is_refused(hot: Hotpath) -> None:
    async def observe(request: HotpathRequest) -> None: ...

    class Async:
        async def __call__(self, request: HotpathRequest) -> None: ...

    for wrong in (observe, Async(), "log", True):
        with pytest.raises(DeclarationError, match="plain function"):
            HotpathMiddleware(app, hot=hot, observe=wrong)  # type: ignore[arg-type]


def test_nothing_is_observed_or_logged_unless_asked_for(
    hot: Hotpath, records: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(*_: object) -> None:
        raise AssertionError("observed, although nobody asked")

    monkeypatch.setattr(Watch, "__init__", planted)
    middleware = HotpathMiddleware(app, hot=hot)
    assert [ask(middleware, target).status for target in ("/hot/a", "/cold", "/hot/b%20c")] == [200, 418, 200]
    assert records == []


# --- the access line ---


def test_a_line_is_json_with_these_fields(hot: Hotpath, records: list[logging.LogRecord]) -> None:
    log = AccessLog()
    before = time.time()
    body = ask(HotpathMiddleware(app, hot=hot, observe=log), "/hot/b%20c?").body
    log.close()
    (record,) = records
    assert (record.name, record.levelname) == ("hotpath.access", "INFO")
    line = json.loads(record.getMessage())
    assert list(line) == "time method path status result generation bytes microseconds coding".split()
    assert line["time"].endswith("Z")
    assert before - 1 < _seconds(line["time"]) < time.time() + 1
    assert line["microseconds"] > 0
    rest = {name: line[name] for name in line if name not in ("time", "microseconds")}
    assert rest == {
        "method": "GET",
        "path": "/hot/b%20c",
        "status": 200,
        "result": "hit",
        "generation": 1,
        "bytes": len(body),
        "coding": "identity",
    }


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def event(path: str = "/x", **fields: Any) -> HotpathRequest:
    given: dict[str, Any] = {
        "time": 1_800_000_000.0,
        "method": "GET",
        "path": path,
        "status": 200,
        "result": "hit",
        "generation": 7,
        "body_bytes": 3,
        "microseconds": 1.23456,
        "coding": "gzip",
    }
    return HotpathRequest(**(given | fields))


def test_what_a_client_writes_into_a_path_stays_in_its_field(records: list[logging.LogRecord]) -> None:
    log = AccessLog()
    path = '/"\n{"result":"hit"}\x00\u2028' + "a" * 5000
    log(event(path))
    log.close()
    (record,) = records
    text = record.getMessage()
    assert "\n" not in text
    assert json.loads(text)["path"] == path[:MAX_PATH]


class Stuck(logging.Handler):
    """A handler that waits until it is let go, as one does that writes to a full pipe."""

    def __init__(self) -> None:
        super().__init__()
        self.is_in, self.may_go = threading.Event(), threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.is_in.set()
        assert self.may_go.wait(SECONDS)
        self.lines.append(record.getMessage())


def test_a_handler_that_hangs_stops_no_request_and_what_is_dropped_is_told(
    hot: Hotpath, records: list[logging.LogRecord]
) -> None:
    handler = Stuck()
    logging.getLogger("hotpath.access").addHandler(handler)
    log = AccessLog(max_waiting=10)
    middleware = HotpathMiddleware(app, hot=hot, observe=log)
    try:
        ask(middleware, "/hot/a")
        assert handler.is_in.wait(SECONDS)
        assert [ask(middleware, "/hot/a").status for _ in range(30)] == [200] * 30
        assert log.dropped == 20
    finally:
        handler.may_go.set()
        log.close()
        logging.getLogger("hotpath.access").removeHandler(handler)
    assert len(handler.lines) == 11
    (told,) = [record for record in records if record.name == "hotpath"]
    assert told.getMessage().startswith("20 access lines were dropped")


def test_a_filter_that_raises_is_reported_once_and_the_thread_lives(records: list[logging.LogRecord]) -> None:
    def planted(record: logging.LogRecord) -> bool:
        if "/bad" in record.getMessage():
            raise ZeroDivisionError("planted")
        return True

    logger = logging.getLogger("hotpath.access")
    logger.addFilter(planted)
    log = AccessLog()
    try:
        for path in ("/bad", "/bad", "/good"):
            log(event(path))
        log.close()
    finally:
        logger.removeFilter(planted)
    assert [record.name for record in records] == ["hotpath", "hotpath.access"]
    assert '"/good"' in records[-1].getMessage()


def test_a_log_that_was_closed_goes_on_with_the_next_request(records: list[logging.LogRecord]) -> None:
    log = AccessLog()
    log.close()
    for number in range(3):
        log(event(f"/{number}"))
        log.close()
    assert [json.loads(record.getMessage())["path"] for record in records] == ["/0", "/1", "/2"]
    assert not [thread for thread in threading.enumerate() if thread.name == "hotpath-access"]


def test_lines_are_written_soon_without_a_close(records: list[logging.LogRecord]) -> None:
    log = AccessLog()
    for number in range(1, 4):
        log(event())
        wait_until(lambda wanted=number: len(records) == wanted)  # type: ignore[misc]
    log.close()


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "8"])
def test_a_bound_that_cannot_work_is_refused(wrong: Any) -> None:
    with pytest.raises(DeclarationError, match="max_waiting"):
        AccessLog(max_waiting=wrong)


def run(program: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )


EVENT = "HotpathRequest(0.0, 'GET', PATH, 200, 'hit', 1, 2, 3.0, 'identity')"


def test_without_logging_set_up_a_warning_says_what_to_write(tmp_path: Path) -> None:
    done = run(
        f"from hotpath.asgi.access_log import *\nlog = AccessLog()\nPATH = '/'\nfor _ in range(3): log({EVENT})",
        tmp_path,
    )
    assert done.stderr.count("basicConfig") == 1
    assert "hotpath.access" in done.stderr


def test_a_forked_child_writes_its_own_lines_and_python_ends_with_all_written(tmp_path: Path) -> None:
    program = f"""
        import logging, os, sys
        from hotpath.asgi.access_log import AccessLog, HotpathRequest
        logging.basicConfig(level=logging.INFO, format="%(process)d %(message)s", stream=sys.stdout)
        log = AccessLog()
        def tell(PATH): log({EVENT})
        tell("/parent")
        child = os.fork()
        tell("/child" if child == 0 else "/parent-again")
        if child:
            os.waitpid(child, 0)
    """
    lines = run(program, tmp_path).stdout.splitlines()
    written = sorted((json.loads(line.partition(" ")[2])["path"], line.partition(" ")[0]) for line in lines)
    assert [path for path, _ in written] == ["/child", "/parent", "/parent-again"]
    assert written[0][1] != written[1][1] == written[2][1]


def test_python_ends_also_where_nobody_reads_the_lines(tmp_path: Path) -> None:
    program = f"""
        import logging, sys, threading, time
        from hotpath.asgi.access_log import AccessLog, HotpathRequest
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        AccessLog.close.__defaults__ = (0.5,)
        log = AccessLog()
        PATH = "/" + "x" * 900
        for _ in range(200): log({EVENT})  # three times what a pipe holds
        time.sleep(0.2)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        said = process.communicate(timeout=SECONDS)
    assert said[1] == b""
    assert 10 < len(said[0].splitlines()) < 200


SITE = """
import logging
from hotpath import Hotpath, HotpathMiddleware
from hotpath.asgi.access_log import AccessLog

logging.basicConfig(level=logging.INFO, format="%(message)s", filename="access.log")
hot = Hotpath("hot")

@hot.route("/hot")
def page():
    return {"fill": "x" * 1000}

async def api(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"none"})

app = HotpathMiddleware(api, hot=hot, observe=AccessLog())
"""


@pytest.mark.slow
def test_behind_uvicorn_every_request_has_its_line_also_the_last_one(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    (tmp_path / "site_app.py").write_text(SITE, "utf-8")
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parents[2] / 'src'}:{tmp_path}"}
    subprocess.run(
        [sys.executable, "-m", "hotpath", "build", "site_app:hot"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        timeout=SECONDS * 3,
    )
    with socket.create_server(("127.0.0.1", 0)) as listening, (tmp_path / "server.log").open("wb") as said:
        port = listening.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--fd", str(listening.fileno()), "--no-access-log", "site_app:app"],
            cwd=tmp_path,
            env=environment,
            stdout=said,
            stderr=said,
            pass_fds=(listening.fileno(),),
        )
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
            lengths = []
            for number in range(50):
                connection.request("GET", "/hot" if number % 2 == 0 else f"/cold/{number}")
                lengths.append(len(connection.getresponse().read()))
            connection.close()
            server.send_signal(signal.SIGTERM)
            server.wait(SECONDS)
        finally:
            server.kill()
            server.wait()
    assert "Traceback" not in (tmp_path / "server.log").read_text("utf-8")
    lines = [
        json.loads(line)
        for line in (tmp_path / "access.log").read_text("utf-8").splitlines()
        if line.startswith('{"time"')
    ]
    assert [line["bytes"] for line in lines] == lengths
    assert [line["result"] for line in lines] == ["hit", "miss"] * 25
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


# --- the observers of the how-to ---

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "log-hot-requests.md"


def how_to(*words: str) -> str:
    """The how-to's first block, and the one with ``words``."""
    blocks = [block for block in split(HOW_TO.read_text("utf-8"))[0] if block.language == "python"]
    (wanted,) = [block for block in blocks if all(word in "\n".join(block.lines) for word in words)]
    return "\n".join((*blocks[0].lines, *wanted.lines))


ASK = """
from hotpath.batch import build
from hotpath.testing import asgi_get
import asyncio
hot.route("/hot")(lambda: [1])
build(hot)
def ask(path, *headers): return asyncio.run(asgi_get(app, path, headers=headers)).status
assert (ask("/hot", (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")), ask("/cold")) == (200, 200)
"""


def test_the_structlog_observer_works_as_written(tmp_path: Path) -> None:
    pytest.importorskip("structlog")
    told = run(how_to("import structlog") + ASK, tmp_path).stdout
    assert "result" in told
    assert "/cold" in told
    assert "/hot" in told


OTEL = """
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))
"""
OTEL_ASSERTIONS = """
(span,) = spans.get_finished_spans()
assert span.attributes["url.path"] == "/hot" and span.attributes["hotpath.result"] == "hit"
assert f"{span.context.trace_id:x}" == "a" * 32 and f"{span.parent.span_id:x}" == "b" * 16
assert 0 < span.end_time - span.start_time < 20e9
(point,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
assert point.count == 1 and point.attributes["hotpath.result"] == "hit"
"""


def test_the_opentelemetry_observer_works_as_written(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk")
    run(how_to("from opentelemetry") + OTEL + ASK + OTEL_ASSERTIONS, tmp_path)
