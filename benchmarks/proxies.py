"""What a cold request costs through the front, beside nginx, HAProxy and Caddy before the same app.

    python -m benchmarks.proxies --quick    2 rounds of 1 s
    python -m benchmarks.proxies            6 rounds of 3 s
    python -m benchmarks.proxies --pages 1000    as many pages of 4 KB in turn, each with an ETag of its own

The app does nothing: three bytes from uvicorn with uvloop and httptools. It listens on a Unix socket behind each proxy,
as behind ``hotpath serve``, and once more on a port of its own: both are under load at the same time, all servers on
one core and wrk on another, so that whatever makes the machine slow makes both slow.

From the processor time of a request: the share of the app's own requests a second that is left where proxy and app have
one core together, and where each has its own. Then the time that a request on one connection takes longer.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import (
    CONNECTIONS,
    ROOT,
    Broken,
    Cores,
    Missing,
    Ratio,
    Server,
    Target,
    free_port,
    machine,
    pinned,
    print_facts,
    print_table,
    run_pair,
    start_server,
    write_json,
)
from benchmarks.sample import browser_headers, publish
from hotpath.serving import reader_of
from hotpath.types import Receive, Scope, Send

PATH = "/api/nothing"
BODY = b"ok\n"
PAGE_PATH = "/pages/"
PAGE = b"page" * 1000
LATENCY_REQUESTS = 1000
START_SECONDS = 10.0
ANSWER_SECONDS = 5.0
_PROGRAMS = "/usr/sbin:/usr/local/sbin:/usr/bin:/bin"

FRONT = "hotpath front"
FRONT_ALONE = "hotpath front, --last-good off"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once."""
    if scope["type"] == "http":
        body, headers = BODY, [(b"content-type", b"text/plain")]
        if scope["path"].startswith(PAGE_PATH):
            number = scope["path"].removeprefix(PAGE_PATH).encode()
            body = PAGE + number
            headers += [(b"etag", b'"%b"' % number), (b"cache-control", b"max-age=60"), (b"vary", b"accept-encoding")]
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def front_alone_command(root: Path, port: int, app_socket: Path) -> list[str]:
    """The same without last good answers."""
    return [*front_command(root, port, app_socket), "--last-good", "off"]


def front_command(root: Path, port: int, app_socket: Path) -> list[str]:
    """``hotpath front``, before an app that somebody else has started."""
    to = f"unix:{app_socket}"
    return [sys.executable, "-m", "hotpath", "front", str(root / "hot"), "--to", to, "--port", str(port)]


def nginx_command(root: Path, port: int, app_socket: Path) -> list[str]:
    """One worker that keeps its connections to the app, with the fields that the front adds."""
    temporary = "\n".join(
        f"  {kind}_temp_path {root}/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = root / "nginx.conf"
    configuration.write_text(f"""
daemon off;
master_process off;
worker_processes 1;
pid {root}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
{temporary}
  access_log off;
  keepalive_requests 1000000000;
  upstream app {{ server unix:{app_socket}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
      proxy_set_header Via "1.1 nginx";
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
    }}
  }}
}}
""")
    return [program("nginx", "nginx-light"), "-p", str(root), "-c", str(configuration)]


def haproxy_command(root: Path, port: int, app_socket: Path) -> list[str]:
    """One thread, likewise."""
    configuration = root / "haproxy.cfg"
    configuration.write_text(f"""
global
  nbthread 1
  maxconn 256
defaults
  mode http
  timeout connect 3s
  timeout client 75s
  timeout server 75s
  http-reuse always
frontend public
  bind 127.0.0.1:{port}
  option forwardfor
  http-request set-header Via "1.1 haproxy"
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  default_backend app
backend app
  server app unix@{app_socket}
""")
    return [program("haproxy", "haproxy"), "-db", "-q", "-f", str(configuration)]


def caddy_command(root: Path, port: int, app_socket: Path) -> list[str]:
    """One thread of Go at a time; it adds the fields by itself."""
    configuration = root / "Caddyfile"
    configuration.write_text(f"""
{{
  admin off
  auto_https off
  storage file_system {root}/caddy
  log {{
    level ERROR
  }}
}}
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy unix/{app_socket}
}}
""")
    caddy = program("caddy", "caddy")
    environment = [f"HOME={root}", f"XDG_DATA_HOME={root}", f"XDG_CONFIG_HOME={root}", "GOMAXPROCS=1"]
    return ["/usr/bin/env", *environment, caddy, "run", "--adapter", "caddyfile", "--config", str(configuration)]


PROXIES: Mapping[str, Callable[[Path, int, Path], list[str]]] = {
    FRONT: front_command,
    FRONT_ALONE: front_alone_command,
    "nginx": nginx_command,
    "HAProxy": haproxy_command,
    "Caddy": caddy_command,
}


def program(name: str, package: str) -> str:
    """Where it is. Raises ``Missing``."""
    path = shutil.which(name, path=_PROGRAMS)
    if path is None:
        raise Missing(f"{name} is not installed (apt-get install {package})")
    return path


@dataclass(frozen=True, slots=True)
class Chain:
    """A proxy and the app behind it: to wrk and to ``run_pair`` one server."""

    proxy: Server
    behind: Server

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return self.proxy.url

    def cpu_seconds(self) -> float:
        """Processor time of both."""
        return self.proxy.cpu_seconds() + self.behind.cpu_seconds()


@dataclass(frozen=True, slots=True)
class Round:
    """Processor microseconds of one request: of the app alone, of the proxy, and of the app behind it."""

    alone: float
    proxy: float
    behind: float

    @property
    def one_core(self) -> float:
        """Requests a second of a core that proxy and app share, as a share of the app's own on that core."""
        return self.alone / (self.proxy + self.behind)

    @property
    def two_cores(self) -> float:
        """The same where each of the two has a core: the slower one decides."""
        return self.alone / max(self.proxy, self.behind)


def start_behind(app_socket: Path, core: int, log: Path) -> Server:
    """The app on a Unix socket. Raises ``Broken``."""
    with log.open("wb") as output, pinned(core):
        process = subprocess.Popen([*_uvicorn(), "--uds", str(app_socket)], stdout=output, stderr=output, cwd=ROOT)
    server = Server(process, 0)
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(app_socket))
            return server
        time.sleep(0.02)
    server.stop()
    raise Broken(f"the app did not start: {log.read_text(errors='replace')[-400:]}")


def _uvicorn() -> list[str]:
    command = [sys.executable, "-m", "uvicorn", "benchmarks.proxies:app", "--loop", "uvloop", "--http", "httptools"]
    return [*command, "--no-access-log", "--log-level", "warning"]


def latency(alone: Server, chain: Chain) -> tuple[float, float]:
    """Milliseconds that a request takes longer through the proxy, at the median and the 99th percentile; in turn."""
    request = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % PATH.encode()
    taken: tuple[list[float], list[float]] = ([], [])
    with contextlib.ExitStack() as stack:
        ports = (alone.port, chain.proxy.port)
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)) for port in ports]
        for number in range(LATENCY_REQUESTS):
            for client, times in zip(clients, taken, strict=True):
                before = time.perf_counter()
                client.sendall(request)
                received = b""
                while not received.endswith(b"\r\n\r\n" + BODY):
                    received += client.recv(65536)
                if number:  # the first connects
                    times.append((time.perf_counter() - before) * 1000)
    direct, through = map(sorted, taken)
    middle, high = len(direct) // 2, len(direct) * 99 // 100
    return through[middle] - direct[middle], through[high] - direct[high]


@dataclass(frozen=True, slots=True)
class Row:
    """One proxy in the table."""

    name: str
    rounds: Sequence[Round]
    median_ms: float
    p99_ms: float

    def of(self, value: Callable[[Round], float]) -> Ratio:
        """A figure of all rounds."""
        return Ratio.of([value(found) for found in self.rounds])


def pages_script(root: Path, pages: int) -> Path:
    """wrk asks for so many pages in turn."""
    path = root / "pages.lua"
    path.write_text(
        "local n = 0\n"
        "function request()\n"
        f"  n = (n + 1) % {pages}\n"
        f'  return wrk.format("GET", "{PAGE_PATH}" .. n)\n'
        "end\n"
    )
    return path


def measure(
    name: str, root: Path, rounds: int, seconds: int, cores: Cores, headers: Mapping[str, str], script: Path | None
) -> Row:
    """One proxy. Raises ``Missing`` or ``Broken``."""
    with contextlib.ExitStack() as stack:
        app_socket = root / f"{len(name)}-app.sock"
        behind = start_behind(app_socket, cores.server, root / "behind.log")
        stack.callback(behind.stop)
        port, own = free_port(), free_port()
        proxy = start_server(PROXIES[name](root, port, app_socket), port, cores.server, root / "proxy.log")
        stack.callback(proxy.stop)
        alone = start_server([*_uvicorn(), "--port", str(own)], own, cores.server, root / "alone.log")
        stack.callback(alone.stop)
        chain = Chain(proxy, behind)
        latency(alone, chain)  # warm
        found = []
        for _ in range(rounds):
            before = proxy.cpu_seconds(), behind.cpu_seconds()
            targets = Target(alone, PATH, headers, script), Target(chain, PATH, headers, script)
            direct, through = run_pair(*targets, seconds, cores)
            used = proxy.cpu_seconds() - before[0], behind.cpu_seconds() - before[1]
            found.append(Round(direct, through * used[0] / sum(used), through * used[1] / sum(used)))
        return Row(name, found, *latency(alone, chain))


def tell(line: str) -> None:
    """What is not a figure."""
    print(line, file=sys.stderr, flush=True)


def run(
    names: Sequence[str], rounds: int, seconds: int, cores: Cores, headers: Mapping[str, str], pages: int
) -> list[Row]:
    """All proxies, one after the other. What cannot be measured is said on standard error."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="hotpath-bench-") as directory:
        root = Path(directory)
        reader_of(publish(root / "hot")).close()
        script = pages_script(root, pages) if pages else None
        for name in names:
            tell(f"{time.strftime('%H:%M:%S')} {name}")
            try:
                rows.append(measure(name, root, rounds, seconds, cores, headers, script))
            except (Missing, Broken, OSError) as error:
                tell(f"{name} is left out: {error}")
    return rows


def versions() -> str:
    """Of the proxies that are here."""
    said = []
    for name, arguments in (("haproxy", ["-v"]), ("caddy", ["version"])):
        path = shutil.which(name, path=_PROGRAMS)
        if path is not None:
            output = subprocess.run([path, *arguments], capture_output=True, text=True, check=False).stdout
            version = re.search(r"\d+\.\d+(\.\d+)?", output)
            said.append(f"{name} {version.group() if version else '?'}")
    return "; ".join(said)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when nothing could be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s instead of 6 of 3 s")
    parser.add_argument("--rounds", type=int, help="how often each proxy is measured")
    parser.add_argument("--seconds", type=int, help="how long, each time")
    parser.add_argument("--browser", action="store_true", help="ask with the 13 fields of a browser")
    parser.add_argument("--pages", type=int, default=0, help="ask for so many pages instead of three bytes")
    parser.add_argument("--proxies", nargs="+", choices=PROXIES, default=[*PROXIES], help="which of them")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args(arguments)
    rounds, seconds = options.rounds or (2 if options.quick else 6), options.seconds or (1 if options.quick else 3)
    fields = browser_headers(b"identity") if options.browser else []
    headers = {name.decode("ascii"): value.decode("ascii") for name, value in fields if name != b"host"}
    cores = Cores.choose()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end too
    try:
        program("wrk", "wrk")
    except Missing as error:
        tell(str(error))
        return 1
    rows = run(options.proxies, rounds, seconds, cores, headers, options.pages)
    if not rows:
        tell("nothing could be measured")
        return 1
    print_facts(machine())
    print(versions())
    print(f"all servers on core {cores.server}, wrk with {CONNECTIONS} connections on core {cores.client};")
    print(f"{rounds} rounds of {seconds} s, each together with the app alone.")
    print("Shares of the app's own requests a second: median (min to max).\n")
    cells: list[list[object]] = []
    for row in rows:
        one, two = row.of(lambda found: found.one_core), row.of(lambda found: found.two_cores)
        microseconds = [row.of(value).median for value in (lambda r: r.alone, lambda r: r.proxy, lambda r: r.behind)]
        cells.append(
            [
                row.name,
                one.median,
                one.low,
                one.high,
                two.median,
                two.low,
                two.high,
                *microseconds,
                row.median_ms,
                row.p99_ms,
            ]
        )
    titles = [
        *("proxy", "one core", "min", "max", "a core each", "min", "max"),
        *("app alone µs", "proxy µs", "app behind µs", "+ms median", "+ms p99"),
    ]
    print_table(titles, cells)
    write_json(options.json, {"rows": [dict(zip(titles, cell, strict=True)) for cell in cells]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
