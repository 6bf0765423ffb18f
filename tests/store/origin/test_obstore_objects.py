"""What an engine says becomes one line with what to do, and nothing secret is in it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from obstore.store import GCSStore

from hotpath.errors import DeclarationError, OriginConflict, OriginError
from hotpath.store.origin import Origin
from hotpath.store.origin.objects import Objects
from hotpath.store.origin.obstore_objects import ObstoreObjects, explained
from hotpath.store.origin.url import OriginUrl

ACCESS_KEY, SECRET_KEY = "AKIAGEHEIM", "geheim/key"


class Engine(BaseHTTPRequestHandler):
    """Answers every request with one status and code, and repeats the access key in its text, as S3 does."""

    protocol_version = "HTTP/1.1"
    status = 200
    code = ""
    length: int | None = None

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = f"<Error><Code>{self.code}</Code><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(self.length or len(body)))
        if self.status == 200:
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Sat, 28 Nov 2026 20:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.length is not None

    do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def engine() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def objects(engine: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> Objects:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    return ObstoreObjects(
        OriginUrl.parse(f"s3://bucket/site?endpoint_url=http://127.0.0.1:{engine.server_port}&allow_http=true")
    )


REQUESTS: dict[str, Callable[[Objects], object]] = {
    "get": lambda objects: objects.get("CURRENT"),
    "put_new": lambda objects: objects.put_new("CURRENT", b"1"),
    "put_if": lambda objects: objects.put_if("CURRENT", b"1", '"0"'),
    "list": lambda objects: [*objects.list("blobs/")],
    "delete": lambda objects: objects.delete(["blobs/a"]),
}

ANSWERS = [
    (403, "InvalidAccessKeyId", "does not know this access key; give other credentials", False),
    (403, "SignatureDoesNotMatch", "the secret key is not that of the access key; give other", False),
    (400, "ExpiredToken", "the credentials have expired; give other credentials", False),
    (403, "RequestTimeTooSkewed", "the clocks of this machine and of the engine differ too much; set", False),
    (403, "AccessDenied", "may not do this; allow them GetObject, PutObject, DeleteObject and ListBucket", False),
    (403, "Whatever", "may not do this; allow them", False),
    (404, "NoSuchBucket", "there is no such bucket; make it", False),
    (400, "AuthorizationHeaderMalformed", "the bucket is in another region; add ?region", False),
    (301, "PermanentRedirect", "the bucket is in another region; add ?region", False),
    (501, "NotImplemented", "the engine has no conditional writes; use one", False),
    (400, "Odd", "the engine answered 400 (Odd); see the engine's log", False),
    (500, "InternalError", "the engine answered 500 (InternalError); try again later", True),
    (503, "SlowDown", "the engine answered 503 (SlowDown); try again later", True),
    (429, "TooManyRequests", "the engine answered 429 (TooManyRequests); try again later", True),
]


@pytest.mark.parametrize(("status", "code", "text", "is_transient"), ANSWERS)
@pytest.mark.parametrize("request_name", REQUESTS)
def test_what_an_engine_answers(
    objects: Objects,
    monkeypatch: pytest.MonkeyPatch,
    request_name: str,
    status: int,
    code: str,
    text: str,
    is_transient: bool,
) -> None:
    monkeypatch.setattr(Engine, "status", status)
    monkeypatch.setattr(Engine, "code", code)
    with pytest.raises(OriginError) as refused:
        REQUESTS[request_name](objects)
    error = refused.value
    assert text in str(error)
    assert str(error).startswith(objects.url)
    assert (error.is_transient, error.exit_code) == (is_transient, 75 if is_transient else 1)
    if status != 301:
        assert (error.status, error.reason) == (status, code)
    assert not isinstance(error, OriginConflict)
    assert "\n" not in str(error)
    assert ACCESS_KEY not in f"{error}{error.__cause__}"
    assert error.__suppress_context__, "the engine's own text is not in a traceback either"


@pytest.mark.parametrize("status", [409, 412])
@pytest.mark.parametrize("request_name", ["put_new", "put_if"])
def test_a_refused_condition(objects: Objects, monkeypatch: pytest.MonkeyPatch, request_name: str, status: int) -> None:
    monkeypatch.setattr(Engine, "status", status)
    with pytest.raises(OriginConflict) as refused:
        REQUESTS[request_name](objects)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("key", "most"),
    [
        ("CURRENT", 1 << 20),
        ("PIN", 1 << 20),
        ("machines/web1.json", 1 << 20),
        ("blobs/aa/aa", 1 << 29),
        ("generations/00000001.json", 1 << 29),
    ],
)
def test_an_object_that_would_fill_the_memory_is_not_read(
    objects: Objects, monkeypatch: pytest.MonkeyPatch, key: str, most: int
) -> None:
    monkeypatch.setattr(Engine, "length", most + 1)
    with pytest.raises(OriginError, match=f"{most + 1:,} bytes") as refused:
        objects.get(key)
    assert not refused.value.is_transient
    assert (refused.value.key, refused.value.url) == (key, objects.url)


def test_what_is_not_there_is_no_error(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "status", 404)
    monkeypatch.setattr(Engine, "code", "NoSuchKey")
    assert objects.get("CURRENT") is None


@pytest.mark.parametrize(
    ("text", "allow_http", "problem", "is_transient"),
    [
        ("Error performing PUT http://169.254.169.254/latest/api/token: 403", True, "no credentials", False),
        ("Error performing GET http://s3/a - HTTP error: builder error", False, "has no TLS", False),
        ("HTTP error: error sending request ... kind: Timeout,", True, "no answer in time", True),
        ("HTTP error: error sending request ... kind: Connect,", True, "connection failed", True),
        ("something new", True, "connection failed", True),
    ],
)
def test_what_obstore_says_of_no_answer(text: str, allow_http: bool, problem: str, is_transient: bool) -> None:
    error = explained(text, "s3://bucket", "reading", "CURRENT", allow_http)
    assert problem in str(error)
    assert error.is_transient is is_transient


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    objects = ObstoreObjects(OriginUrl.parse("s3://bucket?endpoint_url=http://127.0.0.1:1&allow_http=true"))
    with pytest.raises(OriginError, match="connection failed") as refused:
        objects.get("CURRENT")
    assert refused.value.is_transient


def test_a_child_of_a_process_that_has_used_it_does_not_hang(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "status", 404)
    assert objects.get("CURRENT") is None
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(OriginError, match="forked"):
        objects.get("CURRENT")


class Google(Engine):
    """Answers as Google's XML API does: each write of an object has a generation."""

    headers_seen: ClassVar[list[dict[str, str]]] = []

    def answer(self) -> None:
        self.headers_seen.append({name.lower(): value for name, value in self.headers.items()})
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        for name, value in (
            ("ETag", '"abc"'),
            ("x-goog-generation", "1700000000000001"),
            ("Last-Modified", "Sat, 28 Nov 2026 20:00:00 GMT"),
            ("Content-Length", "1" if self.command == "GET" else "0"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"1")

    do_GET = do_PUT = answer  # noqa: N815


def test_a_pointer_at_google_is_replaced_by_its_generation() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Google)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    provider: Any = lambda: {"token": "a token", "expires_at": None}  # noqa: E731  its type is obstore's alone
    try:
        store = GCSStore(
            "bucket",
            config={"base_url": f"http://127.0.0.1:{server.server_port}"},
            client_options={"allow_http": True},
            credential_provider=provider,
        )
        objects = ObstoreObjects(OriginUrl.parse("gs://bucket/site"), store)
        found = objects.get("CURRENT")
        assert found is not None
        assert objects.put_if("CURRENT", b"2", found.etag) == found.etag
        objects.get_if_changed("CURRENT", found.etag)
        objects.put_new("CURRENT", b"1")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    _, replaced, looked, created = Google.headers_seen
    assert replaced["x-goog-if-generation-match"] == "1700000000000001"
    assert looked["if-none-match"] == '"abc"'
    assert created["x-goog-if-generation-match"] == "0"


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(DeclarationError, match=r"pip install 'asgi-hotpath\[s3\]'"):
        Origin("s3://bucket/site")
