"""What is reported is what the lines say."""

from __future__ import annotations

import ast
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hotpath import Hotpath
from hotpath.errors import DeclarationError
from hotpath.ops.traffic.crawlers import shipped
from hotpath.ops.traffic.damage import bursts, parse_journal
from hotpath.ops.traffic.logs import read
from hotpath.ops.traffic.page import html
from hotpath.ops.traffic.quiet import quietest
from hotpath.ops.traffic.report import LogReport, lines

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
REAL_LOG = Path(__file__).resolve().parents[4] / "shared" / "data" / "access.log.gz"


def line(
    path: str,
    status: int = 200,
    *,
    at: str = "17/May/2015:10:05:03",
    address: str = "66.249.66.1",
    agent: str = GOOGLEBOT,
) -> str:
    return f'{address} - - [{at} +0000] "GET {path} HTTP/1.1" {status} 5831 "-" "{agent}" 0.100\n'


def logged(tmp_path: Path, *parts: str, **options: object) -> LogReport:
    log = tmp_path / "access.log"
    log.write_text("".join(parts))
    return read([str(log)], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "verified"),
    [
        ("66.249.66.1", True),
        ("2001:4860:4801:10::1", True),
        ("2001:4860:4801:10::1%eth0", True),
        ("::ffff:66.249.66.1", True),
        ("66.249.96.1", False),
        ("198.18.0.1", False),
        ("2001:db8::1", False),
        ("-", False),
        ("unix:", False),
    ],
)
def test_a_crawler_is_verified_by_its_address_and_a_forged_agent_is_a_claim(
    tmp_path: Path, address: str, verified: bool
) -> None:
    (crawl,) = logged(tmp_path, line("/", address=address)).crawls
    assert (crawl.crawler, crawl.verified, crawl.requests) == ("Googlebot", verified, 1)


def test_newer_addresses_take_the_place_of_the_shipped_ones(tmp_path: Path) -> None:
    newer = tmp_path / "googlebot.json"
    newer.write_text(json.dumps({"prefixes": [{"ipv4Prefix": "198.18.0.0/15"}, {"ipv6Prefix": "2001:db8::/32"}]}))
    crawlers = shipped({"Googlebot": newer})
    assert crawlers.is_verified("Googlebot", b"198.18.0.1")
    assert not crawlers.is_verified("Googlebot", b"66.249.66.1")
    assert crawlers.is_verified("Bingbot", b"157.55.39.1")
    for wrong in ("[]", "{}", '{"prefixes": [{}]}', '{"prefixes": [{"ipv4Prefix": "x"}]}', "no json"):
        newer.write_text(wrong)
        with pytest.raises(DeclarationError, match="Googlebot"):
            shipped({"Googlebot": newer})


def test_the_crawl_table_counts_by_class_and_only_the_last_days(tmp_path: Path) -> None:
    old = line("/", 500, at="01/Mar/2015:10:05:03")
    found = logged(tmp_path, old, line("/"), line("/a", 301), line("/b", 404), line("/c", 502), line("/d", 499))
    (crawl,) = found.crawls
    assert crawl.requests == 5
    assert crawl.classes == {"2xx": 1, "3xx": 1, "4xx": 1, "5xx": 1, "reset": 1}
    assert found.error_share == pytest.approx(0.4)
    assert crawl.days == {"2015-05-17": {"requests": 5, "2xx": 1, "3xx": 1, "4xx": 1, "5xx": 1, "reset": 1}}
    (crawl,) = logged(tmp_path, old, line("/"), days=365).crawls
    assert crawl.requests == 2


def test_the_routes_it_proposes_run_when_pasted(tmp_path: Path) -> None:
    paths = [f"/stocks/{n:06}" for n in range(50)] + ["/", "/it's/a%20page", "/class", "/a-b.html", "/x/"] * 3
    found = logged(tmp_path, *(line(path) for path in paths), *(line(f"/page{n}x") for n in range(60)))
    assert found.suggestions
    hot = Hotpath(tmp_path / "hot")
    for text in found.suggestions:
        ast.parse(text)
        exec(compile(text, "pasted", "exec"), {"hot": hot})
    assert "/stocks/{stock}" in {route.path.text for route in hot.routes}
    assert len(list(hot.plan())) >= 3


def test_with_a_site_it_knows_what_is_hot_and_what_nobody_asks_for(tmp_path: Path) -> None:
    paths = [f"/stocks/{n:06}" for n in range(50)] + ["/", "/rankings/kospi"]
    declared = ["/stocks/{code}", "/rankings/{market}", "/never/{a}/{b}"]
    found = logged(tmp_path, *(line(path) for path in paths), declared=declared)
    assert {route.path: route.declared for route in found.routes} == {
        "/stocks/{stock}": True,
        "/": False,
        "/rankings/kospi": True,
    }
    assert found.unasked == ("/never/{a}/{b}",)
    assert not any("stocks" in text for text in found.suggestions)


def test_errors_that_came_together_are_one_burst_with_the_restarts_beside_it() -> None:
    bad = {(100, 502, "Googlebot"): 40, (101, 502, ""): 3, (103, 503, "Googlebot"): 1, (200, 500, ""): 1}
    journal = b"\n".join(
        [
            b'{"MESSAGE_ID":"fe6faa94e7774663a0da52717891d8ef","__REALTIME_TIMESTAMP":"6000000000","MESSAGE":"oom"}',
            b'{"MESSAGE_ID":"39f53479d3a045ac8e11786248231fbf","__REALTIME_TIMESTAMP":"6120000000"}',
            b'{"MESSAGE":"anything else","__REALTIME_TIMESTAMP":"6120000000"}',
            b"no json",
            b"[]",
        ]
    )
    first, second = bursts(bad, parse_journal(journal))
    assert (first.first_minute, first.last_minute, first.errors) == (100, 103, 44)
    assert first.statuses == Counter({502: 43, 503: 1})
    assert first.crawlers == Counter({"Googlebot": 41})
    assert first.restarts == ["killed, out of memory", "started"]
    assert (second.first_minute, second.errors, second.restarts) == (200, 1, [])


def test_the_quiet_hour_is_where_the_fewest_come_of_a_week() -> None:
    week = {minute: (0 if 1440 + 180 <= minute < 1440 + 300 else 5) for minute in range(7 * 1440)}
    found = quietest(week, 4 * 7 * 1440, 10)
    assert found is not None
    assert (found.weekday, found.expected, found.is_quiet) == ("Tuesday", 0, True)
    assert "03:00" < found.starts < "05:00"
    flat = quietest(dict.fromkeys(range(7 * 1440), 5), 7 * 1440, 10)
    assert flat is not None
    assert not flat.is_quiet
    assert quietest({}, 100, 10) is None


def test_a_window_may_go_round_the_end_of_the_day() -> None:
    day = {minute: (0 if minute >= 1430 or minute < 10 else 3) for minute in range(1440)}
    found = quietest(day, 1440, 20)
    assert found is not None
    assert (found.weekday, found.starts, found.expected) == (None, "23:50", 0)


def test_a_gzip_file_that_ends_too_soon_is_read_up_to_there(tmp_path: Path) -> None:
    whole = gzip.compress("".join(line(f"/{n}") for n in range(20_000)).encode())
    log = tmp_path / "access.log.gz"
    log.write_bytes(whole[: len(whole) // 2])
    found = read([str(log)])
    assert 1000 < found.lines < 20_000
    assert "ends too soon" in found.warnings[0]


@pytest.mark.parametrize("content", [b"", b"\n\n", os.urandom(5000), b"\x1f\x8b broken", b"a,b,c\n1,2,3\n"])
def test_what_is_no_log_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(content)
    with pytest.raises(DeclarationError, match=r"no line of an access log in .*line") as raised:
        read([str(log)])
    assert "\n" not in str(raised.value)


def test_a_line_without_an_end_needs_no_memory(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with log.open("wb") as file:
        file.write(line("/").encode())
        for _ in range(64):
            file.write(b"x" * 1024 * 1024)
        file.write(b"\n" + line("/").encode())
    code = (
        "import sys; from hotpath.ops.traffic.logs import read; found = read([sys.argv[1]]);"
        "from hotpath.process.fork import status_bytes;"
        "print(found.crawls[0].requests, status_bytes('self', 'VmHWM') >> 20)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(log)], capture_output=True, text=True, check=True)
    requests, mebibytes = map(int, done.stdout.split())
    assert requests == 2
    assert mebibytes <= 64


def test_what_a_client_sent_is_text_in_the_page(tmp_path: Path) -> None:
    found = logged(tmp_path, *(line(f"/<script>alert({n})</script>$x&amp;\u202e") for n in range(3)))
    page = html(found)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page
    assert "default-src 'none'" in page


def hotpath(*arguments: str, cwd: Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "hotpath", *arguments]
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, check=False, timeout=60)


@pytest.mark.slow
def test_the_command_reads_files_of_a_set_standard_input_and_a_site(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from hotpath import Hotpath\nhot = Hotpath('hot')\n"
        "@hot.route('/stocks/{code}', each=['1'])\ndef stock(code): return code\n"
    )
    (tmp_path / "access.log").write_text(line("/stocks/1"))
    (tmp_path / "access.log.1.gz").write_bytes(gzip.compress(line("/").encode()))
    done = hotpath(
        "logs", "access.log", "access.log.1.gz", "-", "app:hot", "--json", cwd=tmp_path, stdin=line("/b").encode()
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["lines"] == 3
    assert {route["path"]: route["declared"] for route in found["routes"]} == {
        "/stocks/1": True,
        "/": False,
        "/b": False,
    }
    done = hotpath("logs", "access.log", "--html", "page.html", cwd=tmp_path)
    assert b"Googlebot" in done.stdout
    assert "<svg" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["absent.log"], b"absent.log: No such file"),
        (["app:hot"], b"no log"),
        (["access.log", "--window", "0s"], b"--window"),
        (["access.log", "--window", "2d"], b"1 minute to 1 day"),
        (["access.log", "--days", "0"], b"days=0"),
        (["access.log", "--ranges", "Googlebot"], b"write CRAWLER=FILE"),
        (["access.log", "--ranges", "Googlebot=absent.json"], b"absent.json"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path: Path, arguments: list[str], problem: bytes) -> None:
    (tmp_path / "access.log").write_text(line("/"))
    done = hotpath("logs", *arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert problem in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not REAL_LOG.exists(), reason="the real log is not at hand")
@pytest.mark.skipif(shutil.which("awk") is None, reason="there is no awk")
def test_the_crawl_table_of_a_real_log_is_what_awk_counts() -> None:
    found = read([str(REAL_LOG)])
    program = r"""
        tolower($6) ~ /googlebot|google-inspectiontool|googleother|storebot-google|adsbot-google|mediapartners-google/ {
            split($1, head, " "); split(head[1], ip, "."); split($3, numbers, " ")
            if (ip[1] == 66 && ip[2] == 249 && ip[3] >= 64 && ip[3] <= 95) count[substr(numbers[1], 1, 1) "xx"]++
        }
        END { for (each in count) print each, count[each] }
    """
    counted = subprocess.run(
        ["awk", "-F", '"', program], input=gzip.decompress(REAL_LOG.read_bytes()), capture_output=True, check=True
    )
    by_awk = {key: int(value) for key, value in (row.split() for row in counted.stdout.decode().splitlines())}
    (googlebot,) = [crawl for crawl in found.crawls if crawl.crawler == "Googlebot" and crawl.verified]
    assert {name: count for name, count in googlebot.classes.items() if count} == by_awk
    assert googlebot.requests == sum(by_awk.values()) > 100
    assert found.bad_lines == 0
    assert "Googlebot" in "\n".join(lines(found))


def test_a_path_that_is_mostly_not_there_is_no_route(tmp_path: Path) -> None:
    probed = [line("/wp-login.php", 404), line("/gone", 410), line("/gone", 404), line("/about")]
    report = logged(tmp_path, *probed * 10)
    assert {route.path: (route.missing, route.is_hot_set) for route in report.routes} == {
        "/wp-login.php": (10, False),
        "/gone": (20, False),
        "/about": (0, True),
    }
    assert [suggestion.splitlines()[1] for suggestion in report.suggestions] == ["@hot.route('/about')"]


def test_what_a_declared_route_covers_is_marked(tmp_path: Path) -> None:
    report = logged(tmp_path, line("/rankings/lse"), line("/about"), declared=["/rankings/{market}"])
    marked = [text for text in lines(report) if text.endswith("  (declared)")]
    assert [text.split()[-2] for text in marked] == ["/rankings/lse"]
