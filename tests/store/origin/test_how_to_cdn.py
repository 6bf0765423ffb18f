"""What docs/how-to/cdn-with-bucket.md shows: the policy and nginx at the edge, with a real engine and no machine."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from hotpath.batch.run import build
from hotpath.site import Hotpath
from hotpath.store.origin import Origin
from tests.project.test_docs import split
from tests.store.origin.engine import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Engine
from tests.wire.differential.test_how_to_nginx import nginx
from tests.wire.differential.test_nginx import free_port

pytest.importorskip("obstore", reason="pip install 'asgi-hotpath[s3]'")
pytestmark = pytest.mark.slow

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to"
SITE = "cdn"


def block(document: str, language: str) -> str:
    blocks = [each for each in split((HOW_TO / document).read_text("utf-8"))[0] if each.language == language]
    assert len(blocks) == 1
    return "\n".join(blocks[0].lines)


def replaced(text: str, **by: tuple[str, str]) -> str:
    for old, new in by.values():
        assert old in text
        text = text.replace(old, new)
    return text


def edge(engine: Engine, port: int, machine: int) -> str:
    """The configuration of the page, for this engine and one machine."""
    text = block("cdn-with-bucket.md", "nginx")
    for number in (12, 13):
        text = replaced(text, server=(f"    server 10.0.0.{number}:8000 max_fails=1 fail_timeout=2s;\n", ""))
    return replaced(
        text,
        machine=("10.0.0.11:8000", f"127.0.0.1:{machine}"),
        listen=("listen 80;", f"listen 127.0.0.1:{port};"),
        path=("/site/pages", f"/{BUCKET}/{SITE}/pages"),
        bucket=("https://pages.s3.eu-central-1.amazonaws.com", engine.endpoint),
        host=("pages.s3.eu-central-1.amazonaws.com", f"127.0.0.1:{engine.port}"),
    )


def put_policy(engine: Engine, policy: str) -> None:
    """``aws s3api put-bucket-policy``, signed by hand (AWS Signature Version 4)."""
    body = policy.encode()
    digest = hashlib.sha256(body).hexdigest()
    host, now = f"127.0.0.1:{engine.port}", datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = "host;x-amz-content-sha256;x-amz-date"
    canonical = (
        f"PUT\n/{BUCKET}\npolicy=\nhost:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{now}\n\n{names}\n{digest}"
    )
    scope = f"{now[:8]}/{REGION}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{SECRET_KEY}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    authorization = f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
    fields = {"x-amz-content-sha256": digest, "x-amz-date": now, "Authorization": authorization}
    request = Request(f"{engine.endpoint}/{BUCKET}?policy=", body, fields, method="PUT")
    with urlopen(request, timeout=10) as answer:
        assert answer.status in (200, 204)


def ask(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    request = Request(f"http://127.0.0.1:{port}{path}", method=method, data=b"" if method == "POST" else None)
    try:
        with urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except HTTPError as error:
        return error.code, dict(error.headers), error.read()


@pytest.fixture(scope="module")
def hot(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Hotpath:
    """A site that was built and copied, and whose pages anybody may read."""
    hot = Hotpath(tmp_path_factory.mktemp("site") / "hot")
    hot.route("/", media_type="text/html")(lambda: "<h1>home</h1>")
    hot.route("/docs/", media_type="text/html", cache_control="public, max-age=5")(lambda: "<h1>docs</h1>")
    markets = ["kospi", "한국", "a b", "50%", "what?", "x:y@z;,=!$&'()*", '"<>[]{}|^`~']
    hot.route("/r/{market}", each={"market": markets})(lambda market: {"market": market})
    hot.route("/list", each=[{"page": None}, {"page": 2}], query=("page",))(lambda page: [page])
    build(hot)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in engine.environment.items():
            environment.setenv(name, value)
        origin = Origin(engine.url(SITE))
        origin.send(hot.store)
        origin.copy_site(hot.store)
    policy = block("cdn-with-bucket.md", "json")
    put_policy(engine, replaced(policy, bucket=("arn:aws:s3:::pages/site/", f"arn:aws:s3:::{BUCKET}/{SITE}/")))
    return hot


def test_with_no_machine_hot_pages_are_200_and_all_others_503(engine: Engine, hot: Hotpath, tmp_path: Path) -> None:
    port, manifest = free_port(), hot.store.read_manifest(1)
    with nginx(tmp_path, port, edge(engine, port, free_port())):
        for key, item in manifest.items.items():
            status, fields, body = ask(port, key)
            if key.startswith("/list"):
                assert status == 503, key
                continue
            assert (status, hashlib.sha256(body).digest()) == (200, item.identity.sha256), key
            assert fields["Content-Type"] == item.policy.media_type
            assert fields["Cache-Control"] == item.policy.cache_control
            assert fields["X-Frame-Options"] == "DENY"
        assert ask(port, "/r/kospi?utm_source=x")[0] == 200
        for path in ("/cold", "/docs/none/", "/..%2f..%2fCURRENT", "/%2e%2e/CURRENT"):
            assert ask(port, path)[0] in (400, 503), path
        assert ask(port, "/cold")[1]["Retry-After"] == "60"
        assert ask(port, "/r/kospi", "HEAD")[0] == 200
        assert ask(port, "/r/kospi", "POST")[0] == 503


def test_the_policy_lets_nobody_read_anything_but_pages(engine: Engine, hot: Hotpath) -> None:
    assert ask(engine.port, f"/{BUCKET}/{SITE}/pages/r/kospi")[0] == 200
    for key in ("CURRENT", "COPY", "generations/00000001.json"):
        assert ask(engine.port, f"/{BUCKET}/{SITE}/{key}")[0] == 403


@contextmanager
def machine(statuses: dict[str, int]) -> Iterator[int]:
    """A machine that answers with these, and else with 200."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.get(self.path, 200))
            self.send_header("X-Machine", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_a_machine_answers_is_passed_on_but_for_a_bad_gateway(
    engine: Engine, hot: Hotpath, tmp_path: Path
) -> None:
    port = free_port()
    statuses = {"/busy": 503, "/none": 404, "/r/kospi": 502, "/cold": 504}
    with machine(statuses) as other, nginx(tmp_path, port, edge(engine, port, other)):
        for path, expected in (("/", 200), ("/busy", 503), ("/none", 404)):
            status, fields, _ = ask(port, path)
            assert (status, fields.get("X-Machine"), fields.get("Retry-After")) == (expected, "1", None)
        assert ask(port, "/r/kospi")[::2] == (200, b'{"market":"kospi"}')
        assert ask(port, "/cold")[0] == 503


def test_the_files_of_the_balancers_are_valid(tmp_path: Path) -> None:
    port = free_port()
    text = replaced(block("three-machines.md", "nginx"), listen=("listen 80;", f"listen 127.0.0.1:{port};"))
    with nginx(tmp_path, port, text):
        pass
    haproxy = shutil.which("haproxy")
    if haproxy is None:
        pytest.skip("needs haproxy (Debian: haproxy)")
    whole = (HOW_TO / "three-machines.md").read_text("utf-8")
    (section,) = [
        "\n".join(each.lines) for each in split(whole)[0] if each.lines and each.lines[0].startswith("defaults")
    ]
    (tmp_path / "haproxy.cfg").write_text(section.replace("bind :80", "bind 127.0.0.1:8080") + "\n")
    done = subprocess.run(
        [haproxy, "-c", "-f", str(tmp_path / "haproxy.cfg")], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
