"""What a crawler gets while the origin fails: scenario by scenario through hotpath front, nginx, Varnish and Caddy.

    python -m benchmarks.last_good                           everything that is installed, about 4 minutes
    python -m benchmarks.last_good --programs hotpath nginx

The scenarios, and what must come in each, are in tests/front/last_good_scenarios.py. Every program waits one second for
the origin. Each has the configuration that its own manual recommends for this purpose, and the rules against answers
that could be personal that its language can say in a line each: nobody loses for want of a line of configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.harness import Broken, Cores, Missing, Server, free_port, print_table, start_server, write_json
from benchmarks.sample import publish
from tests.front.failing_origin import Origin
from tests.front.last_good_scenarios import SCENARIOS, Got, Want, is_as_wanted, recover, run

PATIENCE_SECONDS = 1
SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/bin"

NGINX = """\
daemon off;
error_log stderr crit;
pid {root}/nginx.pid;
worker_processes 1;
events {{}}
http {{
  access_log off;
  {temporary}
  proxy_cache_path {root}/cache levels=1:2 keys_zone=good:8m max_size=256m inactive=7d use_temp_path=off;
  # Cookies of analytics are nobody's; any other cookie is somebody's.
  map $http_cookie $personal {{ "" 0; "~^_ga=[^;]*$" 0; default 1; }}
  map $http_cache_control $unwanted {{ default 0; "~*no-store" 1; }}
  # What must not be given when it is stale is not kept: nginx has no way to keep it only while it is fresh.
  map $upstream_http_cache_control $bound {{
    default 0;
    "~*must-revalidate|proxy-revalidate|s-maxage|no-store|private|no-cache" 1;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{origin};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_connect_timeout {patience}s;
      proxy_read_timeout {patience}s;
      proxy_cache good;
      proxy_cache_key $host$request_uri;
      proxy_cache_valid 200 301 404 410 1s;
      proxy_cache_use_stale error timeout invalid_header updating http_500 http_502 http_503 http_504;
      proxy_cache_lock on;
      proxy_cache_bypass $personal $http_authorization;
      proxy_no_cache $personal $http_authorization $bound $unwanted;
    }}
  }}
}}
"""

VARNISH = """\
vcl 4.1;
import std;
backend default {{
  .host = "127.0.0.1";
  .port = "{origin}";
  .connect_timeout = {patience}s;
  .first_byte_timeout = {patience}s;
  .between_bytes_timeout = {patience}s;
}}
sub vcl_recv {{
  if (req.http.Cookie ~ "^_ga=[^;]*$") {{ unset req.http.Cookie; }}
}}
sub vcl_hit {{
  # RFC 9111 4.2.4: what must be validated is not given stale.
  if (obj.ttl <= 0s && obj.http.Cache-Control ~ "(?i)must-revalidate|proxy-revalidate|s-maxage") {{ return (pass); }}
}}
sub vcl_backend_response {{
  # As the manual's saint mode: an error is not kept, and does not replace what is there.
  if (beresp.status >= 500) {{
    if (bereq.is_bgfetch) {{ return (abandon); }}
    set beresp.uncacheable = true;
    set beresp.ttl = 0s;
    return (deliver);
  }}
  if (beresp.http.Cache-Control ~ "(?i)no-store|no-cache|private" ||
      beresp.http.Set-Cookie || beresp.http.Vary == "*") {{
    set beresp.uncacheable = true;
    set beresp.ttl = 120s;
    return (deliver);
  }}
  set beresp.grace = 7d;
  if (beresp.http.Cache-Control ~ "(?i)stale-if-error=[0-9]+") {{
    set beresp.grace = std.duration(regsub(beresp.http.Cache-Control, "(?i).*stale-if-error=([0-9]+).*", "\\1s"), 0s);
  }}
  if (!beresp.http.Cache-Control && !beresp.http.Expires) {{ set beresp.ttl = 1s; }}
  # A body is fetched whole before anybody gets it, so that half of one is not kept.
  set beresp.do_stream = false;
}}
"""

CADDY = """\
{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port}, http://site.test:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{origin} {{
    lb_try_duration {patience}s
    transport http {{
      dial_timeout {patience}s
      response_header_timeout {patience}s
    }}
  }}
}}
"""


def _program(name: str, package: str) -> str:
    path = shutil.which(name, path=SYSTEM_PATH)
    if path is None:
        raise Missing(f"{name} is not installed (apt-get install {package})")
    return path


def _configured(template: str, path: Path, port: int, origin: int) -> Path:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n  ".join(f"{kind}_temp_path {path.parent}/{kind};" for kind in kinds)
    path.write_text(
        template.format(root=path.parent, port=port, origin=origin, patience=PATIENCE_SECONDS, temporary=temporary)
    )
    return path


def hotpath(root: Path, port: int, origin: int) -> list[str]:
    """With its defaults, but for the times."""
    command = [sys.executable, "-m", "hotpath", "front", str(root / "store"), "--port", str(port)]
    return [
        *command,
        *("--to", f"http://127.0.0.1:{origin}"),
        *("--last-good", "64MiB", "--patience", f"{PATIENCE_SECONDS}s", "--hold", f"{PATIENCE_SECONDS}s"),
    ]


def nginx(root: Path, port: int, origin: int) -> list[str]:
    """``proxy_cache_use_stale`` for everything it has a word for."""
    configuration = _configured(NGINX, root / "nginx.conf", port, origin)
    return [_program("nginx", "nginx-light"), "-e", "stderr", "-p", str(root), "-c", str(configuration)]


def varnish(root: Path, port: int, origin: int) -> list[str]:
    """Grace of seven days, and saint mode as its manual does it in VCL."""
    configuration = _configured(VARNISH, root / "site.vcl", port, origin)
    return [
        *(_program("varnishd", "varnish"), "-F", "-n", str(root / "varnish"), "-f", str(configuration)),
        *("-a", f"127.0.0.1:{port}", "-s", "malloc,64m", "-j", "none"),
    ]


def caddy(root: Path, port: int, origin: int) -> list[str]:
    """Debian's has no cache: it is here for what a plain proxy does."""
    configuration = _configured(CADDY, root / "Caddyfile", port, origin)
    return [_program("caddy", "caddy"), "run", "--adapter", "caddyfile", "--config", str(configuration)]


PROGRAMS: Mapping[str, Callable[[Path, int, int], list[str]]] = {
    "hotpath": hotpath,
    "nginx": nginx,
    "varnish": varnish,
    "caddy": caddy,
}


@contextlib.contextmanager
def started(name: str, root: Path, origin: Origin) -> Iterator[Server]:
    """A program before the origin, with its files in ``root``."""
    port = free_port()
    server = start_server(PROGRAMS[name](root, port, origin.port), port, Cores.choose().server, root / "log")
    try:
        recover(origin, port)
        yield server
    except AssertionError as error:
        raise Broken(f"{error}; its log ends with {(root / 'log').read_text(errors='replace')[-400:]}") from error
    finally:
        server.stop()


def take(name: str) -> dict[str, tuple[Got, float]]:
    """A program through all scenarios: what came, and after how many seconds."""
    with tempfile.TemporaryDirectory(prefix=f"last-good-{name}-") as directory:
        root = Path(directory)
        root.chmod(0o755)  # the users that nginx and Varnish run as may enter
        if name == "hotpath":
            publish(root / "store")  # before there are threads
        origin = Origin().start()
        try:
            with started(name, root, origin) as server:
                return {scenario.name: (got, seconds) for scenario, got, _, seconds in run(origin, server.port)}
        finally:
            origin.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--json", type=Path, help="write what came to a file too")
    arguments = parser.parse_args()
    results: dict[str, dict[str, tuple[Got, float]]] = {}
    for name in arguments.programs:
        began = time.monotonic()
        try:
            results[name] = take(name)
        except (Missing, Broken) as reason:
            print(f"{name} is left out: {reason}")
            continue
        print(f"{name}: {time.monotonic() - began:.0f} s")
    if "caddy" in results:
        print("caddy has no cache in Debian's package: what it can do is wait and pass on")
    print_table(
        ("scenario", "must come", *results),
        [
            (scenario.name, scenario.want.value, *(_cell(*result[scenario.name]) for result in results.values()))
            for scenario in SCENARIOS
        ],
    )
    print("leak: the page from before, where a rule forbids it or the app lives and has a new one")
    print_table(("program", "as it must be", "200 for the crawler", "leaks"), [_sum(*pair) for pair in results.items()])
    write_json(
        arguments.json,
        {
            name: {scenario: {"came": got.value, "seconds": seconds} for scenario, (got, seconds) in result.items()}
            for name, result in results.items()
        },
    )
    return 0 if results else 1


def _cell(got: Got, seconds: float) -> str:
    return got.value if seconds < 2 * PATIENCE_SECONDS else f"{got.value} ({seconds:.0f} s)"


def _sum(name: str, result: Mapping[str, tuple[Got, float]]) -> tuple[str, str, str, int]:
    right = sum(is_as_wanted(scenario, result[scenario.name][0]) for scenario in SCENARIOS)
    came = Counter(got for got, _ in result.values())
    possible = sum(scenario.want is Want.OLD for scenario in SCENARIOS)
    return name, f"{right} of {len(SCENARIOS)}", f"{came[Got.OLD]} of {possible}", came[Got.LEAK]


if __name__ == "__main__":
    sys.exit(main())
