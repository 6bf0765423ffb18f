"""``hotpath serve`` and ``hotpath front`` as processes: the app dies, hangs, is replaced, and hot pages stay."""

from __future__ import annotations

import http.server
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from hotpath.front.group import make_group
from hotpath.process.fork import descendants
from tests.front.serving import APP, Client, Serving, await_true, environment, free_port, hotpath, served, write_site
from tests.guard.groups import needs_groups

HOT = [f"/hot/{n}" for n in range(20)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("built")
    write_site(directory)
    return directory


@pytest.fixture
def site(built: Path, tmp_path: Path) -> Path:
    """A site of one's own."""
    write_site(tmp_path)
    return tmp_path


def is_whole(client: Client) -> bool:
    """Whether every answer was one of generation 1, with its length."""
    return all(isinstance(key, tuple) and key[:2] == (200, "1") and key[2] > 5000 for key in client.counts)


def test_hot_and_cold_are_served_and_nothing_stays(site: Path) -> None:
    with served(site, "--admin", f"127.0.0.1:{(admin := free_port())}") as front:
        assert f"hotpath serves http://127.0.0.1:{front.port}" in front.said()
        assert "20 hot pages of generation 1" in front.said()
        status, body = front.get("/hot/3")
        assert (status, json.loads(body)["n"]) == (200, 3)
        assert front.get("/hot/3?ref_a=1&utm_source=x")[1] == body, "what the app declares is known to the front"
        pid = front.app_pid()
        assert front.get("/echo", "POST", b"x" * 100_000) == (200, b'{"length":100000}')
        assert front.get("/nothing")[0] == 404
        front.port, public = admin, front.port
        status, metrics = front.get("/metrics")
        assert status == 200
        assert b"hotpath_front_app_up 1.0" in metrics
        assert b"hotpath_front_door_hits_total 2.0" in metrics
        assert front.get("/readyz")[0] == 200
        front.port = public
        assert front.get("/metrics")[0] == 404, "the public port has none"
        below = {front.process.pid, *(child.pid for child in descendants(front.process.pid))}
        assert pid in below
    assert front.process.returncode == 0
    await_true(lambda: not any(map(psutil.pid_exists, below)), 5, lambda: "something of it lives on")


def test_the_app_dies_with_the_front(site: Path) -> None:
    with served(site) as front:
        pid = front.app_pid()
        front.process.kill()
        await_true(lambda: not psutil.pid_exists(pid), 5, lambda: "the app lives on without its front")


@pytest.mark.slow
def test_a_site_that_is_not_built_yet_is_picked_up(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with served(tmp_path) as front:
        assert "no hot page yet" in front.said()
        assert front.get("/who")[0] == 200
        assert front.get("/hot/1")[0] == 404
        assert hotpath(tmp_path, "build", "app:hot", "--quiet").returncode == 0
        await_true(lambda: front.get("/hot/1")[0] == 200, 10, lambda: "the first generation was not picked up")


@pytest.mark.slow
def test_pause_holds_what_is_cold_and_resume_lets_it_pass(site: Path) -> None:
    with served(site) as front:
        front.app_pid()
        assert hotpath(site, "pause", "--port", str(front.port), "--max", "20s").returncode == 0
        with Client(front.port, ["/who"]) as cold, Client(front.port, HOT) as hot:
            time.sleep(0.7)
            assert cold.total == 0
            assert hot.total > 20
            assert hotpath(site, "resume", "--port", str(front.port)).returncode == 0
            await_true(lambda: cold.total > 3, 5, lambda: "what was held did not pass")
        assert not cold.problems
        assert is_whole(hot)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["serve", "nothing:app"], "No module named 'nothing'"),
        (["serve", "broken:app"], "ZeroDivisionError"),
        (["serve", "app"], "write module:attribute"),
        (["serve", "plain:app"], "no HotpathMiddleware"),
        (["serve", "bypassed:app"], "bypass= decides for each request"),
        (["serve", "app:app", "--memory", "900TiB"], "this machine has"),
        (["serve", "app:app", "--memory", "much"], "--memory"),
        (["serve", "app:app", "--server", "nonsense"], "a command that listens on {socket}"),
        (["serve", "app:app", "--admin", "9180"], "write host and port"),
        (["serve", "app:app", "--health", "healthz"], "write a path of the app"),
        (["serve", "app:app", "--port", "{used}"], "choose another with --host and --port"),
        (["serve", "app:app", "--trust", "everybody"], "everybody"),
        (["serve", "app:app", "--hold", "long"], "--hold"),
        (["front", "hot", "--to", "localhost:8000"], "write http://127.0.0.1:8000"),
        (["front", "hot", "--to", "https://example.org"], "plain HTTP"),
        (["reload", "--port", "1"], "no front of this user listens at port 1"),
    ],
)
def test_bad_input_is_one_clear_message(built: Path, command: list[str], problem: str) -> None:
    (built / "broken.py").write_text("1 / 0\n")
    (built / "plain.py").write_text("async def app(scope, receive, send): ...\n")
    (built / "bypassed.py").write_text(APP.replace("hot=hot)\n", "hot=hot, bypass=lambda scope: False)\n", 1))
    text = (built / "bypassed.py").read_text().replace("]), hot=hot)", "]), hot=hot, bypass=lambda scope: False)")
    (built / "bypassed.py").write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as used:
        arguments = [word.replace("{used}", str(used.getsockname()[1])) for word in command]
        done = hotpath(built, *arguments)
    assert done.returncode in (1, 2), done
    assert problem in done.stderr
    assert done.stderr.startswith("hotpath: ")
    assert "Traceback (most recent call last)" not in done.stderr.replace("\n  ", "")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [15])
def test_the_app_is_killed_in_a_loop_under_load(site: Path, seconds: float) -> None:
    seconds = float(os.environ.get("HOTPATH_FRONT_SECONDS", seconds))
    kills = 0
    with served(site) as front:
        front.app_pid()
        with (
            Client(front.port, HOT) as one,
            Client(front.port, HOT, pause=0.001) as two,
            Client(front.port, ["/who"], pause=0.01) as cold,
            Client(front.port, ["/echo"], "POST", b"x" * 2000, pause=0.01) as posts,
        ):
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for child in descendants(front.process.pid):
                    child.kill()
                    kills += 1
                time.sleep(random.uniform(2.5, 4.0))
        print(f"{kills} kills: hot {one.counts + two.counts}, cold {cold.counts}, posts {posts.counts}")
        print(f"longest hot {max(one.longest, two.longest):.3f} s, longest cold {cold.longest:.3f} s")
    assert kills >= seconds / 5
    assert cold.longest < 5
    assert is_whole(one)
    assert is_whole(two)
    assert one.total + two.total > 1000
    assert max(one.longest, two.longest) < 2
    assert not cold.problems, cold.problems[:5]
    # A POST that was sent when the app died may be 502, once; none is lost without an answer.
    assert all(isinstance(key, tuple) and key[0] in (200, 502) for key in posts.counts), posts.problems[:5]


@pytest.mark.slow
def test_a_stopped_app_is_replaced(site: Path) -> None:
    with served(site, "--health", "/who", "--health-timeout", "2s") as front:
        first = front.app_pid()
        os.kill(first, signal.SIGSTOP)
        with Client(front.port, HOT) as hot, Client(front.port, ["/who"], pause=0.05) as cold:
            front.await_said("did not answer /who within 2 s")
            await_true(lambda: cold.total > 3, 20, lambda: "cold pages did not come back")
        assert front.app_pid() != first
    assert is_whole(hot)
    assert not cold.problems, cold.problems[:3]


@pytest.mark.slow
def test_a_blocked_event_loop_of_the_app_costs_hot_pages_nothing(site: Path) -> None:
    text = APP.replace(
        "held = []", "held = []\nasync def block(request):\n    time.sleep(3)\n    return JSONResponse({})\n"
    )
    (site / "app.py").write_text(text.replace('Route("/who", who)', 'Route("/who", who), Route("/block", block)'))
    with served(site) as front:
        front.app_pid()
        with Client(front.port, HOT) as hot, Client(front.port, ["/block"]):
            time.sleep(2.5)
    assert is_whole(hot)
    assert hot.total > 500
    assert hot.longest < 0.5


@pytest.mark.slow
def test_a_crash_loop_is_said_once_and_a_fix_is_taken_at_once(site: Path) -> None:
    with served(site) as front:
        pid = front.app_pid()
        good = (site / "app.py").read_text()
        (site / "app.py").write_text("print('the last words')\n1 / 0\n")
        os.kill(pid, signal.SIGKILL)
        said = front.await_said("for the third time")
        assert "the last words" in said
        assert front.get("/hot/1")[0] == 200
        (site / "app.py").write_text(good)
        front.process.send_signal(signal.SIGHUP)
        assert front.app_pid() != pid
        assert front.said().count("for the third time") == 1


@pytest.mark.slow
def test_deploys_under_load_lose_nothing(site: Path) -> None:
    deploys = int(os.environ.get("HOTPATH_FRONT_DEPLOYS", "10"))
    with served(site) as front:
        front.app_pid()
        with (
            Client(front.port, HOT) as hot,
            Client(front.port, ["/who", "/slow?s=0.3"], pause=0.005) as cold,
            Client(front.port, ["/echo"], "POST", b"x" * 2000, pause=0.005) as posts,
        ):
            for number in range(deploys):
                text = APP.replace("VERSION = 1", f"VERSION = {number + 2}")
                (site / "app.py").write_text(text)
                done = hotpath(site, "reload", "--port", str(front.port), timeout=120)
                assert done.returncode == 0, done.stderr
                assert json.loads(front.get("/who")[1])["version"] == number + 2
        print(f"{deploys} deploys: hot {hot.total}, cold {cold.total}, posts {posts.total}")
    for client in (hot, cold, posts):
        assert not client.problems, client.problems[:5]
    assert is_whole(hot)
    assert min(cold.total, posts.total) > 5 * deploys


@pytest.mark.slow
def test_a_version_that_does_not_start_changes_nothing(site: Path) -> None:
    with served(site) as front:
        pid = front.app_pid()
        (site / "app.py").write_text("raise RuntimeError('forgotten import')\n")
        done = hotpath(site, "reload", "--port", str(front.port))
        assert done.returncode == 1
        assert "the new version did not start" in done.stderr
        assert "forgotten import" in front.said()
        assert front.app_pid() == pid


@pytest.mark.slow
@needs_groups
def test_the_kernel_kills_the_app_at_its_memory_and_never_the_front(site: Path) -> None:
    with served(site, "--memory", "120MiB") as front:
        pids = {front.app_pid()}
        with Client(front.port, HOT) as hot:
            for _ in range(3):
                status, _ = front.get("/grow?mib=300")
                assert status == 502, "it was sent, and nobody knows what came of it; then once more"
                pids.add(front.app_pid())
                time.sleep(2.5)
        assert len(pids) == 4
        assert "the kernel killed it at --memory" in front.said()
        assert is_whole(hot)


def test_a_group_has_its_limit_and_goes() -> None:
    group, why_not = make_group(f"hotpath-test-{os.getpid()}", 64 * 2**20)
    if group is None:
        assert why_not
        pytest.skip(why_not)
    assert group.procs.exists()
    assert group.kills() == 0
    group.remove()
    assert not group.directory.exists()


@pytest.mark.slow
def test_without_a_group_the_front_itself_ends_an_app_that_is_too_large(site: Path) -> None:
    code = (
        "import hotpath.front.app_process as app; app.make_group = lambda *_: (None, 'no groups in this test');"
        "from hotpath.cli import main; main()"
    )
    port = free_port()
    log = (site / "own.log").open("w")
    arguments = ["serve", "app:app", "--port", str(port), "--memory", "150MiB"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=site,
        env={**environment(), "XDG_RUNTIME_DIR": str(site)},
        stderr=log,
    )
    try:
        front = Serving(site, port, process, site / "own.log")  # type: ignore[arg-type]
        front.await_said("hotpath serves")
        pid = front.app_pid()
        front.get("/grow?mib=200")
        front.await_said("more than --memory, and is ended")
        assert front.app_pid() != pid
    finally:
        process.terminate()
        process.wait(20)
        log.close()


@pytest.mark.slow
def test_before_an_app_in_another_language(built: Path) -> None:
    class Cold(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps({"path": self.path, "via": self.headers["via"]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cold)
    thread = threading.Thread(target=backend.serve_forever)
    thread.start()
    try:
        to = f"http://127.0.0.1:{backend.server_address[1]}"
        with served(built, "--to", to, command=("front", "hot")) as front:
            for target in ("/any?x=%2F", "/any?", "/%7Ea//b/../c", "/?"):
                assert json.loads(front.get(target)[1])["path"] == target
            assert front.get("/hot/1")[0] == 200
            done = hotpath(built, "reload", "--port", str(front.port))
            assert done.returncode != 0
    finally:
        backend.shutdown()
        backend.server_close()
        thread.join(10)


@pytest.mark.slow
def test_systemd_gives_the_socket_and_is_told(built: Path, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', WATCHDOG_USEC='1000000');"
            "os.execv(sys.executable, [sys.executable, '-m', 'hotpath', 'serve', 'app:app'])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(listener.fileno())],
            cwd=built,
            pass_fds=(listener.fileno(),),
            env={**environment(), "XDG_RUNTIME_DIR": str(tmp_path), "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stderr=subprocess.DEVNULL,
        )
        try:
            said = [manager.recv(1000).decode()]
            assert said[0].startswith("READY=1")
            assert manager.recv(1000) == b"WATCHDOG=1"
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"GET /hot/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
            process.terminate()
            while (line := manager.recv(1000)) == b"WATCHDOG=1":
                continue
            assert line == b"STOPPING=1"
        finally:
            process.terminate()
            process.wait(20)
