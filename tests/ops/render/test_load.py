"""Load scripts ask for the site's own pages in their mix, and fail where a hot page does."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hotpath.errors import DeclarationError
from hotpath.ops.render.facts import gather
from hotpath.ops.render.load import k6, locust
from hotpath.ops.render.mix import mix_of
from hotpath.site import Hotpath
from tests.ops.local import Answered, Asked, Server
from tests.ops.render.conftest import MakeFacts

LINE = '192.0.2.1 - - [10/Nov/2026:{time} +0000] "GET {path} HTTP/1.1" {status} 100 "-" "curl/8" {seconds}\n'


def log(path: Path, requests: Sequence[tuple[str, int, float]]) -> str:
    lines = [
        LINE.format(time=f"10:{number // 60:02}:{number % 60:02}", path=target, status=status, seconds=seconds)
        for number, (target, status, seconds) in enumerate(requests)
    ]
    path.write_text("".join(lines))
    return str(path)


def test_without_a_log_every_hot_page_alike(make_facts: MakeFacts) -> None:
    mix = mix_of(make_facts())
    assert [(route.name, route.hot, route.weight) for route in mix.routes] == [
        *(("/about", True, 1), ("/rankings/{market}", True, 2), ("/top/{market}", True, 2))
    ]
    assert mix.routes[2].paths == ("/top/kospi?n=1", "/top/kospi")


def test_with_a_log_its_mix_its_rate_and_its_times(make_facts: MakeFacts, tmp_path: Path) -> None:
    requests = [("/rankings/kospi?utm_source=x", 200, 0.001)] * 60 + [("/search", 200, 2.0)] * 58
    requests += [("/gone", 404, 0.0), ("/wp-login.php", 500, 0.0)]
    mix = mix_of(make_facts(logs=(log(tmp_path / "access.log", requests),)))
    assert [(route.name, route.hot, route.weight) for route in mix.routes] == [
        *(("/rankings/{market}", True, 60), ("/search", False, 58), ("/gone", False, 1))
    ]
    # Of a hot route all pages are asked for, of a cold one those that the log shows.
    assert mix.routes[0].paths == ("/rankings/kospi", "/rankings/nyse")
    assert mix.routes[1].paths == ("/search",)
    assert mix.rate == 1
    assert mix.cold_p95_ms == pytest.approx(3 * 1000 * 116 / 59, abs=1)


def test_nothing_published_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="run 'hotpath build' first"):
        mix_of(gather(Hotpath(tmp_path / "hot"), "shop:hot"))


def test_addresses_of_a_log_are_ascii(make_facts: MakeFacts, tmp_path: Path) -> None:
    path = log(tmp_path / "access.log", [('/caf\u00e9/"a\\b', 200, 0.1), ("/a%20b", 200, 0.1)])
    mix = mix_of(make_facts(logs=(path,)))
    paths = [path for route in mix.routes for path in route.paths]
    assert all(path.isascii() and '"' not in path and "\\" not in path for path in paths)
    assert "/a%20b" in paths


STUB_HTTP = """
import { execFileSync } from "node:child_process";
export default { get(url, options) {
  const host = `Host: ${options.headers.Host}`;
  const code = execFileSync("curl", ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", host, url]);
  return { status: Number(code), tags: options.tags };
} };
"""
STUB_K6 = """
export function check(answer, checks, tags) {
  for (const name in checks) console.log(JSON.stringify([tags.kind, answer.tags.name, checks[name](answer)]));
}
"""


@pytest.mark.skipif(shutil.which("node") is None or shutil.which("curl") is None, reason="needs node and curl")
@pytest.mark.slow
def test_the_script_of_k6_runs(make_facts: MakeFacts, tmp_path: Path) -> None:
    """By node, with the two modules of k6 that it uses replaced: k6 is in no Debian."""
    package = tmp_path / "node_modules" / "k6"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"type": "module", "exports": {".": "./k6.js", "./http": "./http.js"}}')
    (package / "k6.js").write_text(STUB_K6)
    (package / "http.js").write_text(STUB_HTTP)
    with Server(lambda asked: Answered(200 if asked.target != "/about" else 500)) as server:
        (file,) = k6(make_facts(port=server.port, base_url="https://shop.example.org"))
        (tmp_path / "k6.mjs").write_text(file.text)
        (tmp_path / "run.mjs").write_text(
            'globalThis.__ENV = {};\nconst script = await import("./k6.mjs");\n'
            "for (let n = 0; n < 40; n++) script.default();\n"
            "console.log(JSON.stringify(script.options.thresholds));\n"
        )
        done = subprocess.run(
            ["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    *checks, thresholds = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(name, right) for _, name, right in checks} == {
        *(("/about", False), ("/rankings/{market}", True), ("/top/{market}", True))
    }
    assert thresholds["checks{kind:hot}"] == ["rate==1"]
    assert thresholds["http_req_duration{kind:hot}"] == ["p(99)<100"]
    assert {asked.headers["host"] for asked in server.asked} == {"shop.example.org"}


@pytest.mark.skipif(shutil.which("k6") is None, reason="needs k6: https://k6.io")
@pytest.mark.slow
def test_k6_takes_it(make_facts: MakeFacts, tmp_path: Path) -> None:
    (tmp_path / "k6.js").write_text(k6(make_facts())[0].text)
    assert subprocess.run(["k6", "inspect", str(tmp_path / "k6.js")], timeout=60, check=False).returncode == 0


def run_locust(facts_text: str, place: Path) -> tuple[int, str]:
    (place / "locustfile.py").write_text(facts_text)
    options = "--headless --users 10 --spawn-rate 10 --run-time 4s --only-summary".split()
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", "locustfile.py", *options],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="needs locust: pip install locust")
@pytest.mark.slow
def test_locust_runs_it_and_fails_where_a_hot_page_does(make_facts: MakeFacts, tmp_path: Path) -> None:
    broken: set[str] = set()

    def answer(asked: Asked) -> Answered:
        return Answered(503 if asked.target in broken else 200)

    with Server(answer) as server:
        facts = make_facts(port=server.port, base_url="https://shop.example.org")
        # The machine of the tests has other work: no time is judged here.
        text = locust(facts)[0].text.replace("HOT_P99_MS = 100", "HOT_P99_MS = 60_000")
        code, printed = run_locust(text, tmp_path)
        assert code == 0, printed
        assert "hot /rankings/{market}" in printed
        assert {asked.headers["host"] for asked in server.asked} == {"shop.example.org"}
        assert len(server.asked) > 20
        broken.add("/about")
        code, printed = run_locust(text, tmp_path)
    assert code == 1
    assert "WRONG hot /about: " in printed
