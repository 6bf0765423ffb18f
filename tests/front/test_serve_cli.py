"""``hotpath serve`` and ``hotpath front`` as their users start them, and what they say about mistakes."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from hotpath.front.address import Address
from tests.front.forwarding import Process, wait_until
from tests.front.serving import Load, Serving, cold, hot, is_alive, load, make_site, post, serving

pytestmark = pytest.mark.slow

FRONT_OF_THE_STORE = ("front", "store", "--to", "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def serve(site: Path) -> Iterator[Serving]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        admin = free.getsockname()[1]
    with serving(site, "--admin", f"127.0.0.1:{admin}") as running:
        running.admin = admin  # type: ignore[attr-defined]
        yield running


def admin(serve: Serving, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", serve.admin, timeout=10)  # type: ignore[attr-defined]
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def may_have(score: int) -> str:
    """The score of a process that asked for this one: lowering it needs CAP_SYS_RESOURCE."""
    code = f"echo {score} 2>/dev/null > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj"
    return subprocess.run(["sh", "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_it_says_what_is_where(serve: Serving, site: Path) -> None:
    text = serve.text
    assert f"hotpath: serving on http://127.0.0.1:{serve.port}\n" in text
    assert f"  hot     20 pages of generation 1 in {site}/store\n" in text
    assert "  app     mysite1:app, started by this process; deploy with SIGHUP or 'hotpath reload'\n" in text
    assert "  memory  no limit for the app (--memory 900MiB)\n" in text
    assert f"  admin   http://127.0.0.1:{serve.admin}\n" in text  # type: ignore[attr-defined]
    assert "\napp | INFO:     Uvicorn running on unix socket " in text


def test_the_admin_port_has_the_status_page(serve: Serving, site: Path) -> None:
    def page() -> str:
        status, text = admin(serve, "/dashboard")
        assert status == 200
        return text

    wait_until(lambda: "All is well: hot pages are up" in page())  # before the app is up it says so
    assert "20<small> of 20</small>" in page()
    assert admin(serve, "/dashboard", "POST")[0] == 405
    memory = site / "store" / "memory.csv"
    wait_until(lambda: memory.exists() and len(memory.read_text("utf-8").splitlines()) > 1)
    assert memory.read_text("utf-8").startswith("time,pid,state,limit,used\n")
    wait_until(lambda: "Memory, the last hour" in page())


def test_hot_pages_have_what_the_app_declares_for_all_pages_and_come_from_the_front(serve: Serving) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", serve.port, timeout=10)
    connection.request("GET", "/rankings/k1")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.headers["x-site"] == "test"
    assert answer.headers["cache-status"].startswith("hotpath; hit;")
    connection.close()


def test_an_unusual_head_gets_its_hot_page_too(serve: Serving) -> None:
    with socket.create_connection(("127.0.0.1", serve.port), 10) as sock:
        sock.sendall(b"GET /rankings/k1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"cache-status: hotpath; hit" in answer


def test_the_kernel_would_pick_the_app_before_the_front(serve: Serving) -> None:
    score = Path(f"/proc/{serve.process.pid}/oom_score_adj").read_text().strip()
    assert score == may_have(-500)
    assert Path(f"/proc/{serve.app_pid()}/oom_score_adj").read_text().strip() == "500"


def test_the_app_is_in_a_directory_that_only_its_user_may_enter(serve: Serving) -> None:
    (own,) = serve.run.glob(f"{serve.process.pid}-*")
    assert own.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in own.iterdir()} == {"app-1.sock", "control.sock"}
    assert (own / "control.sock").stat().st_mode & 0o777 == 0o600


def test_the_admin_port_has_figures_and_health_and_no_commands(serve: Serving) -> None:
    serve.get("/cold/17")
    serve.get("/rankings/k1")
    status, text = admin(serve, "/metrics")
    assert status == 200
    for line in (
        r"hotpath_front_hits_total [1-9]",
        r"hotpath_front_requests_forwarded_total [1-9]",
        r"hotpath_front_requests_held_total \d",
        r"hotpath_front_app_up 1\.0",
        r"hotpath_front_app_restarts_total 0\.0",
        r"hotpath_front_in_flight 0\.0",
        r"hotpath_front_waiting 0\.0",
        r'hotpath_front_app_answers_total\{class="2xx"\} [1-9]',
        r'hotpath_front_app_answers_total\{class="5xx"\} 0',
        r'hotpath_front_app_seconds_bucket\{le="0\.1",route="GET /cold/\{\}"\} [1-9]',
        r"hotpath_generation 1\.0",
    ):
        assert re.search(rf"^{line}", text, re.MULTILINE), line
    assert admin(serve, "/healthz") == (200, '{"status":"alive"}')
    assert admin(serve, "/readyz") == (200, '{"status":"ready"}')
    assert '"app_up":true' in admin(serve, "/status")[1]
    assert admin(serve, "/pause", "POST")[0] == 404
    assert serve.get("/metrics")[1].startswith(b"1 ")  # the app's, on the public port


def test_websockets_pass(serve: Serving) -> None:
    with connect(f"ws://127.0.0.1:{serve.port}/chat") as client:
        client.send("hello")
        assert client.recv(10) == "HELLO"


def test_pause_holds_what_is_cold_and_resume_lets_it_go(serve: Serving) -> None:
    done = serve.command("pause", "--max", "20s")
    assert done.stdout == "requests for the app wait, for 20 s at most; 'hotpath resume' lets them go\n"
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(serve.get("/who")[0]))
    thread.start()
    time.sleep(0.5)
    assert answers == []
    assert serve.get("/rankings/k1")[0] == 200
    assert serve.command("resume").stdout == "requests go to the app again\n"
    thread.join(10)
    assert answers == [200]
    assert serve.command("resume").stdout == "nothing was paused\n"


def test_a_pause_ends_by_itself(serve: Serving) -> None:
    serve.command("pause", "--max", "1s")
    assert serve.get("/who")[0] == 200
    serve.wait_for("the pause ended by itself after 1 s")


def test_commands_to_nobody_say_so(serve: Serving, tmp_path: Path) -> None:
    done = serve.command("reload", "--pid", "1")
    assert (done.returncode, done.stderr) == (
        1,
        f"hotpath: no front with process id 1 runs as this user ({serve.run})\n",
    )
    serve.environ["HOTPATH_RUN"], before = str(tmp_path / "none"), serve.environ["HOTPATH_RUN"]
    done = serve.command("pause")
    serve.environ["HOTPATH_RUN"] = before
    assert done.returncode == 1
    assert done.stderr.startswith("hotpath: no front runs as this user (")
    assert serve.command("pause", "--max", "never").returncode == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_it_in_order(site: Path, number: signal.Signals) -> None:
    with serving(site) as serve:
        app = serve.app_pid()
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(serve.get("/slow")[0]))
        thread.start()
        time.sleep(0.2)
        serve.process.send_signal(number)
        assert serve.process.wait(30) == 0
        assert [*serve.run.glob("[0-9]*")] == []
        thread.join(10)
    assert answers == [200]  # what runs is finished before the app ends
    assert not is_alive(app)
    assert serve.text.index("hotpath: ending") < serve.text.index("app | INFO:     Shutting down")


def test_the_app_dies_with_the_front(site: Path) -> None:
    with serving(site) as serve:
        app = serve.app_pid()
        serve.process.kill()
        serve.process.wait()
        wait_until(lambda: not is_alive(app))
        # The next one takes the directory of the dead one away.
        with serving(site, environ={"HOTPATH_RUN": str(serve.run)}) as other:
            assert [path.name.partition("-")[0] for path in serve.run.glob("[0-9]*")] == [str(other.process.pid)]


@pytest.mark.parametrize("server", ["granian", "gunicorn", "hypercorn"])
def test_other_servers_and_their_workers(site: Path, server: str) -> None:
    pytest.importorskip(server)
    serve = Serving(site, "serve", "mysite1:app", "--port", "{port}", "--server", server, "--workers", "2")
    try:
        serve.wait_for("hotpath: serving on")
        first = serve.app_pid()
        assert serve.get("/cold/1", "POST", b"abc")[1].split()[2] == b"3"
        (master,) = children(serve.process.pid)
        os.kill(master, signal.SIGKILL)
        wait_until(lambda: not is_alive(first))  # a worker without its master
        assert serve.app_pid() != first
        assert serve.command("reload").returncode == 0, serve.text
        worker = serve.app_pid()
        serve.process.kill()
        serve.process.wait()
        wait_until(lambda: not is_alive(worker), 30)
    finally:
        serve.stop()


def test_a_command_of_ones_own(site: Path) -> None:
    command = f"{sys.executable} -m uvicorn --http h11 --uds {{socket}} {{app}}"
    with serving(site, "--server", command) as serve:
        assert serve.get("/who")[0] == 200


def test_an_app_that_cannot_be_imported_waits_for_a_repair(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    (site / "version").write_text("broken")
    serve = Serving(site, "serve", "mysite1:app", "--port", "{port}")
    try:
        serve.wait_for("SIGHUP tries again")
        assert "\n  RuntimeError: this version does not start\n" in serve.text
        (site / "version").write_text("2")
        serve.process.send_signal(signal.SIGHUP)
        serve.wait_for("Uvicorn running on unix socket")
        assert serve.get("/who")[1].startswith(b"2 ")
        assert serve.get("/rankings/k1")[0] == 200
    finally:
        serve.stop()


def test_an_app_that_cannot_be_imported_has_the_hot_pages_of_its_last_start(
    tmp_path: Path, short_directory: Path
) -> None:
    site, kept = make_site(tmp_path / "site"), short_directory
    with serving(site) as first:
        assert first.get("/rankings/k1")[0] == 200
        for note in first.run.glob("store-*"):
            (kept / note.name).write_bytes(note.read_bytes())
    (site / "version").write_text("broken")
    serve = Serving(site, "serve", "mysite1:app", "--port", "{port}", environ={"HOTPATH_RUN": str(kept)})
    try:
        serve.wait_for(f"hot pages are those of its store when it last started: {site}/store\n")
        serve.wait_for("the app does not start")
        connection = http.client.HTTPConnection("127.0.0.1", serve.port, timeout=10)
        connection.request("GET", "/rankings/k1")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["x-site"]) == (200, "test")
        connection.close()
    finally:
        serve.stop()


def test_a_store_whose_app_has_bypass_is_refused_until_it_is_said_to_go_without(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    module = site / "mysite1.py"
    module.write_text(module.read_text().replace("(inner, hot=hot)", "(inner, hot=hot, bypass=lambda scope: True)"))
    assert Serving(site, "build", "mysite1:hot").process.wait(60) == 0
    for command in (("serve", "mysite1:app"), ("serve", "mysite1:app", "--store", "store"), FRONT_OF_THE_STORE):
        refused = Serving(site, *command, "--port", "{port}")
        assert refused.process.wait(60) == 2
        assert "has bypass=, which the front cannot ask; write --without-bypass" in refused.text
    front = Serving(site, *FRONT_OF_THE_STORE, "--without-bypass", "--port", "{port}")
    try:
        front.wait_for("hotpath: serving on")
        assert front.get("/rankings/k1")[0] == 200
    finally:
        front.stop()


def test_a_store_that_is_not_there_is_said_and_picked_up(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    (site / "store").rename(site / "elsewhere")
    with serving(site) as serve:
        assert f"hot     nothing is published in {site}/store: the app gets every request until there is" in serve.text
        assert serve.get("/rankings/k1")[1].startswith(b"1 ")
        (site / "elsewhere").rename(site / "store")
        wait_until(lambda: serve.get("/rankings/k1")[1].startswith(b"{"))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("front", "store"), 2, "Missing option '--to'"),
        (("front", "store", "--to", "localhost:8000"), 2, "write http://127.0.0.1:8000 or unix:/run/site.sock"),
        (("front", "store", "--to", "https://example.org"), 2, "the front speaks plain HTTP to the app"),
        (("serve", "mysite1:app", "--memory", "9TiB"), 2, "--memory 9216.0 GiB is more than there is"),
        (("serve", "mysite1:app", "--memory", "900"), 2, "--memory 900 B is too little for any app; write a unit"),
        (("serve", "mysite1:app", "--memory", "much"), 2, "--memory='much' is no positive number of bytes"),
        (("serve", "mysite1:app", "--systemd"), 1, "--systemd: systemd gave no socket"),
        (("serve", "mysite1:app", "--server", "apache"), 2, "--server 'apache': write uvicorn, granian"),
        (("serve", "mysite1:app", "--ready", "readyz"), 2, "--ready readyz: write a path of the app"),
        (("serve", "mysite1:app", "--hold", "long"), 2, "--hold='long' is no number of seconds"),
        (("serve", "mysite1:app", "--last-good", "much"), 2, "'64MB' (1000-based); 'off' for none"),
        (("serve", "mysite1:app", "--trust", "home"), 2, "home"),
        (("serve", "mysite1:app", "--admin", "9180"), 2, "--admin 9180: write 127.0.0.1:9180"),
        (("serve", "mysite1:nothing", "--port", "{port}"), 2, 'Attribute "nothing" not found in module "mysite1"'),
        (("serve", "mysite1:hot", "--port", "{port}"), 2, "this is a Hotpath, expected the app; write mysite1:app"),
        (("serve", "store", "--port", "{port}"), 2, "store: this is a directory, expected module:attribute, the app"),
        (("serve", "mysite1", "--port", "{port}"), 2, "mysite1: expected module:attribute, the app: app:app"),
        (("serve", "nosuch:app", "--port", "{port}"), 2, 'Could not import module "nosuch"'),
        (("serve", "mysite1:app", "--host", "192.0.2.1"), 1, "192.0.2.1:8000: this machine does not have that address"),
        (("serve", "mysite1:app", "--uds", "/nonexistent/x.sock"), 1, "/nonexistent/x.sock: No such file or directory"),
        (("serve", "mysite1:app", "--uds", "mysite1.py"), 1, "mysite1.py: there is something else than a socket"),
        (("serve", "mysite1:inner", "--in-process", "--port", "{port}"), 2, "no HotpathMiddleware is the first to see"),
        (("serve", "mysite1:app", "--in-process", "--memory", "1GiB"), 2, "--memory: not with --in-process"),
        (("serve", "mysite1:app", "--in-process", "--hold=1s", "--ready=/x"), 2, "--ready, --hold: not with --in-proc"),
        (("serve", "mysite1:app", "--in-process", "--access-log"), 2, "--access-log: not with --in-process"),
        (("serve", "mysite1:app", "--in-process", "--store", "store"), 2, "--store: not with --in-process"),
        (("serve", "mysite1:app", "--in-process", "--patience", "x"), 2, "--patience='x' is no number of seconds"),
    ],
)
def test_mistakes_get_one_line(site: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    serve = Serving(site, *arguments)
    try:
        assert serve.process.wait(60) == code, serve.text
        lines = [line for line in serve.text.splitlines() if says in line]
        assert len(lines) == 1, serve.text
        assert "Traceback" not in serve.text
    finally:
        serve.stop()


@pytest.mark.parametrize("option", [(), ("--admin",)])
def test_a_port_in_use_is_named(site: Path, option: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        where = ("--admin", place, "--port", "{port}") if option else ("--port", place.rpartition(":")[2])
        serve = Serving(site, "serve", "mysite1:app", *where)
        assert serve.process.wait(60) == 1
        says = f"hotpath: {place}: another process listens there; end it, or write another {(*option, '--port')[0]}"
        assert says in serve.text.splitlines()
        serve.stop()


def test_a_front_before_an_app_that_something_else_runs(site: Path, tmp_path: Path) -> None:
    app = Process(Address(path=str(tmp_path / "app.sock")))
    app.start()
    front = Serving(site, "front", "store", "--to", f"unix:{tmp_path}/app.sock", "--port", "{port}")
    try:
        front.wait_for("hotpath: serving on")
        assert front.get("/rankings/k1")[0] == 200
        assert front.get("/echo")[0] == 200
        app.kill()
        assert front.get("/rankings/k1")[0] == 200
        done = front.command("reload")
        assert (done.returncode, done.stderr) == (
            1,
            "hotpath: this front has no app of its own to reload (hotpath serve has)\n",
        )
        front.process.send_signal(signal.SIGHUP)
        front.wait_for("SIGHUP: this front starts no app")
    finally:
        front.stop()
        app.kill()


def test_a_front_with_a_target_has_what_it_declares(site: Path) -> None:
    front = Serving(site, "front", "mysite1:hot", "--to", "http://127.0.0.1:9", "--port", "{port}")
    try:
        front.wait_for("hotpath: serving on")
        connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=10)
        connection.request("GET", "/rankings/k1")
        assert connection.getresponse().headers["x-site"] == "test"
        connection.close()
    finally:
        front.stop()


def test_the_app_in_the_same_process(site: Path) -> None:
    serve = Serving(site, "serve", "mysite1:app", "--in-process", "--port", "{port}")
    try:
        serve.wait_for("the app in the same process")
        assert serve.app_pid() == serve.process.pid
        assert serve.get("/rankings/k1")[0] == 200
        assert serve.stop(signal.SIGINT) == 0
    finally:
        serve.stop()


FAILING = """
from pathlib import Path
from hotpath import HotpathMiddleware
from mysite1 import hot

async def fails_at_will(scope, receive, send):
    assert scope["type"] == "http"
    if Path("fail").exists():
        raise RuntimeError("told to")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"cold"})

app = HotpathMiddleware(fails_at_will, hot=hot)
"""


@pytest.mark.parametrize(("options", "status"), [((), 200), (("--last-good", "off"), 500)])
def test_the_app_in_the_same_process_has_last_good_answers(
    site: Path, tmp_path: Path, options: tuple[str, ...], status: int
) -> None:
    (site / "failing1.py").write_text(FAILING)
    (site / "fail").unlink(missing_ok=True)
    environ = {"HOTPATH_STATE": str(tmp_path)}
    serve = Serving(site, "serve", "failing1:app", "--in-process", *options, "--port", "{port}", environ=environ)
    try:
        serve.wait_for("the app in the same process")
        assert serve.get("/page") == (200, b"cold")
        (site / "fail").touch()
        wait_until(lambda: serve.get("/page")[0] == status)
        assert serve.get("/never")[0] == 500
        assert serve.stop() == 0
        suffixes = {path.suffix for path in tmp_path.iterdir()}
        assert suffixes == (set() if options else {".sqlite", ".lock"})  # closed: no log of it is left
    finally:
        serve.stop()


def test_several_fronts_share_a_port(site: Path) -> None:
    with serving(site, "--reuse-port") as first:
        options = ("--port", str(first.port), "--reuse-port")
        second = Serving(site, "serve", "mysite1:app", *options, environ={"HOTPATH_RUN": str(first.run)})
        try:
            second.wait_for("Uvicorn running on unix socket")
            done = first.command("reload")
            assert done.returncode == 1
            assert "several fronts run; write --pid with one of" in done.stderr
            assert first.command("reload", "--pid", str(second.process.pid)).returncode == 0
            assert {first.app_pid() for _ in range(100)} >= {first.app_pid()}
        finally:
            second.stop()


class Manager:
    """What systemd is to a service: a listening socket, a place for messages, a watchdog."""

    def __init__(self, directory: Path) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.path = directory / "notify"
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        threading.Thread(target=self._read, daemon=True).start()

    def start(self, site: Path, *arguments: str) -> Serving:
        """As sd_listen_fds(3) has it: descriptor 3, and the id that only the service itself knows."""
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
            " os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[2], sys.argv[2:])"
        )
        descriptor = self.listener.fileno()
        serve = Serving(
            site,
            *("serve", "mysite1:app", "--systemd", *arguments),
            environ={"LISTEN_FDS": "1", "NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": "400000"},
            prefix=(sys.executable, "-c", code, str(descriptor)),
            pass_fds=[descriptor],
        )
        serve.port = self.port
        return serve

    def _read(self) -> None:
        while True:
            self.messages += self._socket.recv(4096).decode().splitlines()


def test_systemd_gives_the_socket_and_hears_ready_watchdog_and_stopping(site: Path, tmp_path: Path) -> None:
    manager = Manager(tmp_path)
    serve = manager.start(site, "--store", "store")
    try:
        serve.wait_for("Uvicorn running on unix socket")
        assert serve.get("/who")[0] == 200
        wait_until(lambda: manager.messages.count("WATCHDOG=1") >= 3)
        assert manager.messages[0] == "READY=1"
        assert serve.stop() == 0
        assert "STOPPING=1" in manager.messages
        # Nobody is lost while nobody serves: systemd keeps the socket.
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(serve.get("/rankings/k1")[0]))
        thread.start()
        time.sleep(0.2)
        again = manager.start(site, "--store", "store")
        thread.join(30)
        assert answers == [200]
        again.stop()
    finally:
        serve.stop()


def test_it_is_ready_though_the_app_never_starts(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    (site / "version").write_text("slow")
    manager = Manager(tmp_path)
    serve = manager.start(site, "--store", "store")
    try:
        wait_until(lambda: "READY=1" in manager.messages, 30)
        assert serve.get("/rankings/k1")[0] == 200
    finally:
        serve.stop()


def test_a_front_that_does_not_move_gets_no_watchdog_message(site: Path, tmp_path: Path) -> None:
    manager = Manager(tmp_path)
    serve = manager.start(site, "--store", "store")
    try:
        wait_until(lambda: "WATCHDOG=1" in manager.messages, 30)
        serve.process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        count = manager.messages.count("WATCHDOG=1")
        time.sleep(1)
        assert manager.messages.count("WATCHDOG=1") == count
    finally:
        serve.process.send_signal(signal.SIGCONT)
        serve.stop()


def held(pid: int) -> float:
    """MiB that are resident or swapped out."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"^(?:Rss|Swap): +(\d+) kB", text, re.MULTILINE)) / 1024


@pytest.mark.serial
def test_memory_is_small_and_flat_over_a_days_worth_of_events(site: Path) -> None:
    """Requests, connections, restarts and deploys of a day on a small site, in a minute or two."""
    with serving(site) as serve:
        serve.get("/rankings/k1")
        at_start = held(serve.process.pid)
        figures = []
        for _ in range(6):
            with load(serve.port, hot_clients=4, cold_clients=4, posting=2) as clients:
                time.sleep(8)
                assert serve.command("reload").returncode == 0
                os.kill(serve.app_pid(), signal.SIGKILL)
            assert clients.problems == []
            for number in range(200):  # a connection each, a path each
                assert serve.get(f"/page-{number}/x?{number}")[0] == 200
            figures.append(held(serve.process.pid))
        assert at_start <= 60
        assert max(figures) <= 60
        assert figures[-1] - figures[1] <= 2, figures
        print("at start", at_start, "then", figures)


def on_a_new_connection(ask: Callable[..., None]) -> Callable[..., None]:
    def once(connection: http.client.HTTPConnection, number: int) -> None:
        ask(connection, number)
        connection.close()

    return once


def test_the_front_itself_is_replaced_without_a_lost_connection(site: Path, tmp_path: Path) -> None:
    manager = Manager(tmp_path)
    serve = manager.start(site, "--store", "store")
    serve.wait_for("Uvicorn running on unix socket")
    clients = Load(manager.port)
    clients.start("hot", 4, on_a_new_connection(hot), 0.01)
    clients.start("cold", 4, on_a_new_connection(cold), 0.01)
    clients.start("post", 1, on_a_new_connection(post), 0.02)
    try:
        for _ in range(5):
            time.sleep(1)
            assert serve.stop() == 0
            serve = manager.start(site, "--store", "store")
            serve.wait_for("Uvicorn running on unix socket")
        clients.stop()
    finally:
        serve.stop()
    assert clients.problems == []
    assert min(clients.seen.values()) > 100
