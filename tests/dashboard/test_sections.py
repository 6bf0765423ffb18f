"""The sections: what each says of the facts it is given."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from hotpath.dashboard.facts import AppFacts, GuardFacts, LiveFacts, PageLine, StatusFacts, StoreFacts
from hotpath.dashboard.page import document
from hotpath.dashboard.sections import sections
from hotpath.ops.traffic import logs

NOW = 1_795_880_000.0
EMPTY = StatusFacts(NOW, "app:hot", StoreFacts("/hot"))
GUARD = GuardFacts("TRIM", "usage", None, 0.75, 750, 1000, 0.0, 60.0, 3, 12, 2, 4, False, {"trim": 0.7})
LINE = '{} - - [27/Nov/2026:10:00:00 +0000] "GET /a HTTP/1.1" {} 100 "-" "Mozilla/5.0 (compatible; Googlebot/2.1)"\n'


def words(name: str, facts: StatusFacts) -> str:
    return " ".join(re.sub("<[^>]+>", " ", sections(facts)[name]).split())


def test_nothing_known_is_said_in_each_section_and_hides_the_notes() -> None:
    made = sections(EMPTY)
    assert made["notes"] == ""
    assert all(inside for name, inside in made.items() if name != "notes")
    assert '<section id="notes" class="wide" hidden>' in document(made, updated="", events=None)


def test_a_guard_and_an_app_have_their_figures_at_the_top() -> None:
    app = AppFacts("unix:/app", True, False, 5, 0, 2, restarts=3)
    now = words("now", replace(EMPTY, guard=GUARD, app=app))
    assert "Memory guard TRIM 750 B of 1000 B, 12 refused, replaced 2 times, 4 workers" in now
    assert "App up 5 in flight, 2 held, started again 3 times" in now


def test_pages_by_hits_have_their_bytes_and_their_last_change() -> None:
    hits = [PageLine("/a?x=<1>", 2048, int(NOW) - 60, hits=1234)]
    live = LiveFacts(7, None, False, 9, 0, 0, 0, {("/a", "hit"): 1234, ("/a", "not_modified"): 5}, hits)
    facts = replace(EMPTY, live=live)
    assert "/a?x=&lt;1&gt; 1,234 2.0 KiB 2026-11-28 15:32" in words("pages", facts)
    assert "/a 1,234 5 0 0" in words("requests", facts)


def test_what_crawlers_got_is_a_plot_a_table_and_the_bursts(tmp_path: Path) -> None:
    lines = [LINE.format("66.249.66.1", 200)] * 90 + [LINE.format("66.249.66.1", 502)] * 10
    (tmp_path / "access.log").write_text("".join(lines), "utf-8")
    log = logs.read([str(tmp_path / "access.log")])
    crawlers = words("crawlers", replace(EMPTY, log=log))
    assert "10.00% of 100 requests got 5xx or no answer" in crawlers
    assert "Googlebot 100 90 0 0 10 0 10.00%" in crawlers
    assert "10 × 502 10 of Googlebot" in crawlers


@pytest.mark.parametrize("note", ["the access log is being read", "<b>runs/1.json</b>"])
def test_a_part_that_cannot_be_read_has_its_line(note: str) -> None:
    assert "<li>" in sections(replace(EMPTY, notes=(note,)))["notes"]
    assert "<b>" not in sections(replace(EMPTY, notes=(note,)))["notes"]
