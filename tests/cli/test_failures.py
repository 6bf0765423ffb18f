"""What the command says where something fails: to a script, to people who are asleep, and to cron."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotpath.store.store import Store
from tests.cli.test_commands import APP, hotpath
from tests.ops.local import Answered, Asked, Server


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "myapp.py").write_text(APP)
    return tmp_path


class People:
    """The receiver of alerts by webhook, and of pings."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.pings: list[str] = []


@pytest.fixture
def people(monkeypatch: pytest.MonkeyPatch) -> Iterator[People]:
    found = People()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.path.startswith("/ping"):
                found.pings.append(self.path)
            else:
                found.kinds.append(json.loads(sent)["kind"])
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *arguments: object) -> None:
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("HOTPATH_ALERT_WEBHOOK", f"{base}/alert")
        monkeypatch.setenv("HOTPATH_ALERT_PING", f"{base}/ping")
        yield found
        server.shutdown()
        thread.join()


def test_an_app_that_cannot_be_imported_is_alerted_of(project: Path, people: People) -> None:
    (project / "broken.py").write_text("import nowhere\n")
    for target in ("nothere:hot", "broken:hot"):
        assert hotpath(project, "build", target, "--alert").code == 2
    assert people.kinds == ["build.error"] * 2
    assert people.pings == ["/ping/fail"] * 2


def test_a_test_of_the_alerts_is_no_run_that_hangs(project: Path, people: People) -> None:
    assert hotpath(project, "alert", "test").code == 0
    assert people.pings == ["/ping/start", "/ping"]


def test_a_check_that_cannot_be_made_is_alerted_of(project: Path, people: People) -> None:
    assert hotpath(project, "check", "myapp:hot", "--base-url", "http://127.0.0.1:1", "--alert").code == 1
    assert people.kinds == ["check.store"]


@pytest.mark.parametrize(
    "arguments", [["build", "myapp:hot"], ["check", "myapp:hot", "--base-url", "http://x.example"]]
)
def test_alerts_that_nobody_gets_are_refused(project: Path, arguments: list[str]) -> None:
    found = hotpath(project, *arguments, "--alert")
    assert found.code == 2
    assert "--alert: no way to send one is set; set HOTPATH_ALERT_WEBHOOK" in found.err


def test_a_test_without_any_way_says_what_to_set(project: Path) -> None:
    found = hotpath(project, "alert", "test")
    assert found.code == 1
    assert "set HOTPATH_ALERT_WEBHOOK, HOTPATH_ALERT_APPRISE or HOTPATH_ALERT_PING, a URL, or" in found.err


def test_a_wrong_check_url_is_refused_before_anything_is_built(project: Path) -> None:
    found = hotpath(project, "build", "myapp:hot", "--check", "example.org")
    assert found.code == 2
    assert "--check" in found.err
    assert not (project / "var").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "facts"),
    [
        (["build", "nothere:hot"], 2, {"kind": "TargetError", "exit_code": 2}),
        (["rollback", "myapp:hot"], 1, {"kind": "NothingPublished", "exit_code": 1}),
        (["check", "myapp:hot", "--base-url", "http://127.0.0.1:1"], 1, {"kind": "NothingPublished"}),
        (["explain", "myapp:hot", "x", "--json"], None, {}),
    ],
)
def test_json_is_printed_whatever_happens(
    project: Path, arguments: list[str], code: int | None, facts: dict[str, object]
) -> None:
    found = hotpath(project, *arguments, *([] if "--json" in arguments else ["--json"]))
    told = json.loads(found.out)
    if code is not None:
        assert found.code == code
        assert found.err.startswith("hotpath: ")
        assert facts.items() <= told.items()
        assert told["problem"]


@pytest.mark.slow
def test_json_of_a_failed_and_of_a_wrong_build(project: Path) -> None:
    hotpath(project, "build", "myapp:hot")
    app = APP.replace('MODE = "good"', 'MODE = "raise"').replace('"nyse"]}', '"nyse"]}, critical=True')
    (project / "myapp.py").write_text(app)
    failed = json.loads(hotpath(project, "build", "myapp:hot", "--json").out)
    assert (failed["kind"], failed["generation"], failed["exit_code"]) == ("BuildFailed", None, 1)
    assert failed["failures"][0]["key"] == "/rankings/nyse"
    (project / "myapp.py").write_text(APP)
    wrong = hotpath(project, "build", "myapp:hot", "--json", "--check", "http://127.0.0.1:1")
    told = json.loads(wrong.out)
    assert wrong.code == 69
    assert wrong.err.count("generation 2 is published and stays, but http://127.0.0.1:1 could not be looked at") == 1
    assert "\n\n" not in wrong.err
    assert told["generation"] == 2
    assert {unseen["found"] for unseen in told["check"]["unseen"]} == {"connection refused"}


def test_a_quiet_good_night_prints_nothing(project: Path) -> None:
    good = hotpath(project, "build", "myapp:hot", "--quiet")
    assert (good.code, good.out, good.err) == (0, "", "")
    (project / "myapp.py").write_text(APP.replace('MODE = "good"', 'MODE = "raise"'))
    bad = hotpath(project, "build", "myapp:hot", "--quiet")
    assert (bad.code, bad.out) == (0, "")
    assert "FAILED /rankings/nyse: ValueError: no prices" in bad.err


def test_what_a_failed_item_printed_stands_below_it(project: Path) -> None:
    hotpath(project, "build", "myapp:hot")
    noisy = APP.replace('MODE = "good"', 'MODE = "raise"').replace(
        '    if MODE == "raise"', "    print('\\x1b[31masking for', market)\n    if MODE == \"raise\""
    )
    (project / "myapp.py").write_text(noisy)
    found = hotpath(project, "build", "myapp:hot")
    assert "\n    \\x1b[31masking for nyse\n" in found.err
    assert "asking for kospi" not in found.err


def test_an_approval_and_an_unpin_say_what_is_served(project: Path) -> None:
    hotpath(project, "build", "myapp:hot")
    hotpath(project, "build", "myapp:hot")
    hotpath(project, "pin", "myapp:hot", "1")
    found = hotpath(project, "build", "myapp:hot")
    assert "generation 3 is published, but 1 is pinned and stays served" in found.err
    assert "generation 1 is no longer pinned; generation 3 is served" in hotpath(project, "unpin", "myapp:hot").out
    pinned = hotpath(project, "pin", "myapp:hot", "3").out
    assert pinned == "generation 3 is pinned: builds publish beside it until 'hotpath unpin myapp:hot'\n"
    assert "3 is no longer pinned; it stays served" in hotpath(project, "unpin", "myapp:hot").out


def test_a_plan_that_stops_is_a_failure(project: Path) -> None:
    found = hotpath(project, "recover", "myapp:hot", "--dry-run")
    assert "stop: nothing can be served" in found.out
    assert found.code == 1


@pytest.mark.slow
def test_a_build_without_a_standard_output(project: Path) -> None:
    command = [sys.executable, "-m", "hotpath", "build", "myapp:hot"]
    code = f"import os; os.close(1); os.execv({sys.executable!r}, {command})"
    done = subprocess.run([sys.executable, "-c", code], cwd=project, stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert (project / "var/hot/current").exists()


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_log_on_a_full_disk_ends_no_build(project: Path, closed: str) -> None:
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "hotpath", "build", "myapp:hot"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, cwd=project, text=True, check=False, timeout=60, **{**streams, closed: full})
    assert done.returncode == 0, "1 would say that nothing was published"
    assert (project / "var/hot/current").exists()
    if closed == "stdout":
        assert "generation 1 is published, but stdout does not take it: No space left on device" in done.stderr
    else:
        assert done.stdout.startswith("published generation 1")


def test_a_function_of_each_that_ends_the_process_is_no_good_night(project: Path) -> None:
    each = 'import sys\nhot.route("/x/{n}", each=lambda: sys.exit(0))(lambda n: [n])\n'
    (project / "myapp.py").write_text(APP + each)
    found = hotpath(project, "build", "myapp:hot")
    assert found.code == 1
    assert "each= could not be asked (SystemExit: 0)" in found.err


def test_a_reason_that_is_no_utf_8_is_kept_and_shown_escaped(project: Path) -> None:
    for _ in range(2):
        hotpath(project, "build", "myapp:hot")
    reason = os.fsdecode(b"wrong \xff \x1b[2J prices")
    assert hotpath(project, "rollback", "myapp:hot", "--reason", reason).code == 0
    found = hotpath(project, "status", "myapp:hot")
    assert r"bad: wrong \udcff \x1b[2J prices" in found.out
    assert "\x1b" not in hotpath(project, "status", "myapp:hot", "--json").out


@pytest.mark.slow
@pytest.mark.parametrize("route", ["/rankings/\udcff", "/rankings/\x1b[2J", "/rankings/%ff?a=\udcff", "\udcff"])
@pytest.mark.parametrize("target", ["myapp:hot", "var/hot"])
def test_explain_takes_text_that_is_no_utf_8_and_a_store(project: Path, target: str, route: str) -> None:
    hotpath(project, "build", "myapp:hot")
    found = hotpath(project, "explain", target, route)
    assert found.code == 1
    assert "not hot" in found.out
    assert "\x1b" not in found.out
    assert json.loads(hotpath(project, "explain", target, route, "--json").out)["hot"] is False
    assert hotpath(project, "explain", target, "/rankings/kospi").code == 0


@pytest.mark.parametrize("raised", ["each", "item"])
def test_a_failure_with_a_path_that_is_no_utf_8_is_alerted_of(project: Path, people: People, raised: str) -> None:
    hotpath(project, "build", "myapp:hot")
    broken = 'def broken():\n    open(b"/nowhere/\\xff\\x1b[2J\\xc2\\x9b.csv")\n'
    route = {
        "each": 'hot.route("/x/{n}", each=broken)(lambda n: [n])\n',
        "item": 'hot.route("/x", critical=True)(broken)\n',
    }[raised]
    (project / "myapp.py").write_text(APP + broken + route)
    for arguments in ([], ["--json"], ["--quiet"]):
        found = hotpath(project, "build", "myapp:hot", "--alert", *arguments)
        assert found.code == 1
        assert "/nowhere/" in found.err
        assert not {"\x1b", "\x9b"} & set(found.err + found.out)
    assert people.kinds == ["build.failed"]
    assert "/nowhere/" in hotpath(project, "status", "myapp:hot").out


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["status", "var/hot"], ["explain", "myapp:hot", "/a"], ["status", "var/hot", "--json"]]
)
def test_a_reader_that_has_gone_ends_it_as_sigpipe_does(project: Path, arguments: list[str]) -> None:
    hotpath(project, "build", "myapp:hot")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as stdout:
        command = [sys.executable, "-m", "hotpath", *arguments]
        done = subprocess.run(command, cwd=project, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_two_routes_with_one_file_are_both_named(project: Path) -> None:
    two = 'hot.route("/a", file="same.json")(lambda: 1)\nhot.route("/b", file="same.json")(lambda: 2)\n'
    (project / "myapp.py").write_text(APP + two)
    found = hotpath(project, "build", "myapp:hot")
    assert "/a of '/a'" in found.err
    assert "/b of '/b'" in found.err


@pytest.mark.slow
def test_status_after_an_approval_says_no_more_that_it_is_quarantined(project: Path) -> None:
    many = APP.replace('["kospi", "nyse"]', "list(map(str, range(40)))")
    (project / "myapp.py").write_text(many)
    for _ in range(3):
        assert hotpath(project, "build", "myapp:hot").code == 0
    (project / "myapp.py").write_text(many.replace("range(40)", "range(10)"))
    assert hotpath(project, "build", "myapp:hot").code == 1
    assert "last run: quarantined" in hotpath(project, "status", "myapp:hot").out
    assert hotpath(project, "approve", "myapp:hot", "4", "--reason", "a holiday").code == 0
    assert "quarantined" not in hotpath(project, "status", "myapp:hot").out
    assert json.loads(hotpath(project, "status", "myapp:hot", "--json").out)["last_run"]["outcome"] == "approved"


def test_a_stuck_build_is_named_after_two_nights(project: Path, people: People) -> None:
    hotpath(project, "build", "myapp:hot")
    with Store(project / "var/hot").locked():
        assert hotpath(project, "build", "myapp:hot", "--alert").code == 75
        assert people.kinds == []
        long_ago = time.time() - 48 * 3600
        os.utime(project / "var/hot/lock", (long_ago, long_ago))
        found = hotpath(project, "build", "myapp:hot", "--alert")
    assert found.code == 75
    assert f"process {os.getpid()} (" in found.err
    assert people.kinds == ["build.busy"]


@pytest.mark.slow
def test_what_a_public_server_says_is_escaped_and_a_refusal_has_its_own_exit_code(
    project: Path, people: People
) -> None:
    hotpath(project, "build", "myapp:hot")
    evil = "9\x1b]0;owned\x07\x9b2J\x7f"

    def answer(asked: Asked) -> Answered:
        if "mozilla" in asked.headers["user-agent"]:
            return Answered(200, b"{}", headers={"X-Hotpath-Generation": evil, "Cache-Status": f"hotpath; {evil}"})
        return Answered(302, headers={"Location": f"/login{evil}"})

    with Server(answer) as one, Server(answer) as two:
        for server in (one, two, one):
            command = ("check", "myapp:hot", "--base-url", server.url, "--alert", "--wait", "0")
            for arguments in ([], ["--json"]):
                found = hotpath(project, *command, *arguments)
                assert found.code == 69
                assert not {"\x1b", "\x07", "\x9b", "\x7f"} & set(found.out + found.err)
        assert people.kinds == ["check.unseen"] * 2, "one for each base URL"
        found = hotpath(project, *command, "--user-agent", "mozilla")
        assert found.code == 1
        assert r"\x1b]0;owned\x07\x9b2J\x7f" in found.out
        assert not {"\x1b", "\x07", "\x9b", "\x7f"} & set(found.out + found.err)
        built = hotpath(project, "build", "myapp:hot", "--check", one.url, "--quiet")
        assert built.code == 69
        assert "serving generation 2" in hotpath(project, "status", "myapp:hot").out


def test_the_time_of_a_build_is_that_of_the_whole_command(project: Path) -> None:
    (project / "myapp.py").write_text("import time\ntime.sleep(0.6)\n" + APP)
    found = hotpath(project, "build", "myapp:hot")
    assert float(found.out.rpartition(" in ")[2].split()[0]) >= 0.6
