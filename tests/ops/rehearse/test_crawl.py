"""The crawl of a log: which requests are replayed, what is said of the rest, and memory that does not grow."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotpath.errors import DeclarationError
from hotpath.ops.rehearse.crawl import LogSample, from_pages, read_log
from hotpath.ops.traffic.crawlers import shipped

BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def line(target: str, *, day: int = 1, hour: int = 10, agent: str = BOT, method: str = "GET") -> str:
    return (
        f'66.249.66.1 - - [{day:02}/Oct/2026:{hour:02}:05:00 +0000] "{method} {target} HTTP/1.1" 200 12 "-" "{agent}"'
    )


def log(path: Path, *lines: str) -> list[str]:
    file = path / "access.log"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return [str(file)]


def test_crawlers_are_replayed_where_they_are_enough(tmp_path: Path) -> None:
    bots = [line(f"/b/{number % 7}", day=1 + number % 3) for number in range(120)]
    people = [line("/people", agent="Firefox") for _ in range(50)]
    replay = read_log(log(tmp_path, *bots, *people))
    assert replay.requests == 120
    assert {target for _, target in replay.visits} == {f"/b/{number}" for number in range(7)}
    assert "120 requests of crawlers in 2.0 days" in replay.source
    assert replay.notes == ()


def test_everybody_is_replayed_where_crawlers_are_few_and_that_is_said(tmp_path: Path) -> None:
    replay = read_log(log(tmp_path, line("/a"), *(line("/b", agent="Firefox", day=2) for _ in range(9))))
    assert replay.requests == 10
    assert any("1 requests of crawlers are too few to replay, so everybody's are (10)" in note for note in replay.notes)


def test_a_log_without_times_says_that_its_requests_are_spread(tmp_path: Path) -> None:
    replay = read_log(log(tmp_path, *['INFO:     127.0.0.1:5342 - "GET /a HTTP/1.1" 200 OK'] * 3))
    assert replay.minutes is None
    assert "the lines of the log have no time: its requests are spread evenly" in replay.notes


def test_a_log_of_one_hour_says_that_it_is_repeated(tmp_path: Path) -> None:
    replay = read_log(log(tmp_path, line("/a"), line("/b")))
    assert replay.minutes == 1
    assert any(note.startswith("the log has 1 min only: that is repeated") for note in replay.notes)


def test_requests_for_other_hosts_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = [line("/a"), line("http://other.example/x"), line("http://own.example/y?z=1"), line("//other.example/")]
    replay = read_log(log(tmp_path, *lines), ["own.example"])
    assert {target for _, target in replay.visits} == {"/a", "/y?z=1"}
    assert "2 requests for other hosts are left out" in replay.notes


@pytest.mark.parametrize(
    "lines",
    [[], ["rubbish"], [line("/a", method="POST")], [line("http://other.example/")], [line("*", method="OPTIONS")]],
)
def test_a_log_with_nothing_to_replay_is_one_clear_line(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(DeclarationError, match=r"no request in .* can be replayed") as raised:
        read_log(log(tmp_path, *lines))
    assert "\n" not in str(raised.value)


def test_a_target_that_would_split_a_request_is_left_out(tmp_path: Path) -> None:
    replay = read_log(log(tmp_path, line("/a"), line("/b c"), line("/" + "x" * 2000), line("/\x7f")))
    assert {target for _, target in replay.visits} == {"/a"}
    assert any("3 requests with targets over 1024 bytes" in note for note in replay.notes)


def test_a_log_of_any_length_needs_bounded_memory_and_is_sampled_evenly() -> None:
    sample = LogSample(shipped(), keep=1000)
    count = 6_000
    for start in range(0, count, 1_000):
        sample.read(
            [line(f"/{number}", day=1 + number * 28 // count).encode() for number in range(start, start + 1_000)]
        )
    assert (sample.crawled.seen, len(sample.crawled.kept), len(sample.all.kept)) == (count, 1000, 1000)
    later = sum(int(target[1:]) >= count // 2 for _, target in sample.crawled.kept)
    assert 450 < later < 550


def test_without_a_log_every_hot_page_and_some_cold_ones_are_asked_for() -> None:
    replay = from_pages(["/a", "/b"], ["/cold"], 0.2, "the manifest")
    targets = [target for _, target in replay.visits]
    assert 0.17 < targets.count("/cold") / len(targets) < 0.23
    assert {"/a", "/b"} < set(targets)


def test_a_site_without_cold_pages_is_asked_for_hot_ones() -> None:
    assert {target for _, target in from_pages(["/a"], [], 0.2, "").visits} == {"/a"}
