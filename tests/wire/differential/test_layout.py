"""Other programs read the store as the documents say: nginx by way of ``current``, Node by way of the manifest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpath.pages.policy import Policy
from hotpath.store.publish import staging
from hotpath.store.store import Store
from hotpath.testing import Response
from tests.wire.differential.test_how_to_nginx import configuration, filled_in, nginx
from tests.wire.differential.test_nginx import NGINX, ROOT, free_port, running
from tests.wire.servers.client import Connection

PAGE = ROOT / "docs" / "how-to" / "serve-with-nginx.md"
KEYS = [f"/rankings/{name}" for name in ("kospi", "kosdaq", "nyse")]
POLICY = Policy("/rankings/{market}", "application/json", "public", None, 3600)


def block(language: str) -> str:
    """The one block of the page in a language."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) == 1
    text: str = found[0]
    return text


def publish(store: Store, number: int) -> None:
    with staging(store) as stage:
        for key in KEYS:
            body = b'{"key":"%s","generation":%d,"fill":"%s"}' % (key.encode("ascii"), number, b"abc" * 300)
            stage.add(key, key[1:] + ".json", body, POLICY)
        stage.publish()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    tmp_path.chmod(0o755)
    store = Store(tmp_path / "hot", keep=2)
    publish(store, 1)
    return store


@pytest.fixture
def port(store: Store, tmp_path: Path) -> Iterator[int]:
    """nginx with the rendered file, in front of the app of the differential test."""
    if NGINX is None:
        pytest.skip("needs nginx (Debian: nginx-light)")
    app, front = free_port(), free_port()
    text = filled_in(configuration(), store.root, app, front)
    environment = {**os.environ, "HOTPATH_TEST_STORE": str(store.root), "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    uvicorn = [sys.executable, "-m", "uvicorn", "--port", str(app), "--log-level", "error"]
    with (
        running([*uvicorn, "tests.wire.differential.app:application"], app, environment),
        nginx(tmp_path, front, text),
    ):
        yield front


def ask(port: int, target: str, *fields: str) -> Response:
    with Connection(port) as connection:
        return connection.ask("\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *fields, "", ""]).encode("ascii"))


def test_nginx_sends_the_bytes_of_the_manifest(store: Store, port: int) -> None:
    manifest = store.read_manifest(1)
    for key in KEYS:
        identity, gzip = ask(port, key), ask(port, key, "Accept-Encoding: gzip")
        digests = {one.coding: one.sha256 for one in manifest.items[key].representations}
        assert hashlib.sha256(identity.body).digest() == digests["identity"]
        assert hashlib.sha256(gzip.body).digest() == digests["gzip"]
        assert gzip.header("content-encoding") == "gzip"
        assert identity.header("cache-status") is None, "it was nginx that answered"
        assert identity.header("x-hotpath-generation") == "1"
    assert ask(port, "/rankings/none").status == 404, "the app's word"
    assert ask(port, "/rankings/%6Bospi").header("cache-status") is not None, "by way of the app"


def test_nginx_follows_a_publish_and_a_rollback(store: Store, port: int) -> None:
    publish(store, 2)
    assert json.loads(ask(port, KEYS[0]).body)["generation"] == 2
    store.rollback()
    assert json.loads(ask(port, KEYS[0]).body)["generation"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("publishes", [20, 300])
def test_no_request_finds_a_gap_through_many_publishes(store: Store, port: int, publishes: int) -> None:
    wrong: list[str] = []
    ended = threading.Event()
    answers = 0

    def read() -> None:
        nonlocal answers
        while not ended.is_set():
            for key in KEYS:
                answer = ask(port, key)
                answers += 1
                if answer.status != 200 or json.loads(answer.body)["key"] != key:
                    wrong.append(f"{answer.status} {answer.body[:60]!r}")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        for number in range(2, 2 + publishes):
            publish(store, number)
    finally:
        ended.set()
        reader.join(20)
    assert wrong == []
    assert answers > publishes


def test_node_reads_the_manifest(store: Store, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    (tmp_path / "load.mjs").write_text(block("javascript"))
    (tmp_path / "main.mjs").write_text(
        'import { load } from "./load.mjs"; import { readFileSync } from "node:fs";\n'
        "const found = {};\n"
        "for (const [key, item] of load(process.argv[2])) found[key] = readFileSync(item.path, 'utf8');\n"
        "console.log(JSON.stringify(found));\n"
    )
    publish(store, 2)
    for pinned, generation in ((None, 2), (1, 1)):
        if pinned is not None:
            store.pin(pinned)
        done = subprocess.run(
            [node, "main.mjs", str(store.root)], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30
        )
        found = json.loads(done.stdout)
        assert sorted(found) == sorted(KEYS)
        assert {json.loads(body)["generation"] for body in found.values()} == {generation}
