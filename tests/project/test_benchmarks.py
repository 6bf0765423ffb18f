"""The benchmarks themselves: what they keep and discard, that each runs, and that a planted slow-down is found."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import regression
from benchmarks.harness import Broken, Probe, Series, Slot, parse_wrk, print_table, ratio_of, run_rounds
from benchmarks.plain import constant
from benchmarks.regression import Mark, is_slower
from benchmarks.sample import HOST, PATH, Receive, Scope, Send, browser_headers
from benchmarks.timing import BATCH, FEWEST_BATCHES, Case, TooNoisy, accept, measure
from hotpath.serving.resolver import resolve

ROOT = Path(__file__).parents[2]

QUIET = Slot(requests_per_second=100.0, cpu_microseconds=10.0, others=0.0, slowness=1.0)
CROWDED = Slot(requests_per_second=100.0, cpu_microseconds=10.0, others=0.5, slowness=1.0)
SLOWED = Slot(requests_per_second=100.0, cpu_microseconds=10.0, others=0.0, slowness=1.5)

WRK = """Running 1s test @ http://127.0.0.1:8000/
  44300 requests in 1.00s, 480.00MB read
Requests/sec:  44299.50
"""


def test_rounds_go_in_turn_and_do_a_noisy_slot_again() -> None:
    asked: list[str] = []
    answers = {"a": [QUIET, CROWDED, SLOWED, QUIET], "b": [QUIET, QUIET]}

    def slot(name: str) -> Slot:
        asked.append(name)
        return answers[name].pop(0)

    found = run_rounds(["a", "b"], 2, slot, pytest.fail)
    assert asked == ["a", "b", "a", "a", "a", "b"]
    assert found["a"].discarded == 2
    assert sorted(found["a"].slots) == sorted(found["b"].slots) == [0, 1]


def test_a_peer_without_a_quiet_slot_has_no_figure_for_that_round() -> None:
    limit = Series({0: QUIET, 1: QUIET})
    found = run_rounds(["a"], 2, lambda _: CROWDED, pytest.fail)
    assert ratio_of(found["a"], limit, lambda slot: slot.requests_per_second) is None
    kept = run_rounds(["a"], 2, lambda _: CROWDED, pytest.fail, keep_noisy=True)
    assert ratio_of(kept["a"], limit, lambda slot: slot.requests_per_second) is not None


def test_the_rule_for_noise_does_not_look_at_the_result() -> None:
    assert Slot(1.0, 1e6, others=0.0, slowness=1.0).is_quiet
    assert not Slot(1e6, 1.0, others=0.0, slowness=1.5).is_quiet


def test_a_broken_peer_is_told_of_and_the_others_go_on() -> None:
    told: list[str] = []

    def slot(name: str) -> Slot:
        if name == "b":
            raise Broken("it answers 500, not 200")
        return QUIET

    found = run_rounds(["a", "b"], 2, slot, told.append)
    assert list(found) == ["a"]
    assert told == ["b: left out, it answers 500, not 200"]


def test_ratios_are_of_the_same_round() -> None:
    fast, slow = (Slot(rate, 10.0, 0.0, 1.0) for rate in (200.0, 50.0))
    found = ratio_of(Series({0: fast, 1: slow, 2: fast}), Series({0: fast, 1: slow}), lambda s: s.requests_per_second)
    assert found is not None
    assert (found.median, found.low, found.high, found.rounds) == (1.0, 1.0, 1.0, 2)


def test_the_client_s_output_is_read_and_refusals_are_no_figures() -> None:
    assert parse_wrk(WRK) == (44299.5, 44300)
    with pytest.raises(Broken, match="Non-2xx"):
        parse_wrk(WRK + "  Non-2xx or 3xx responses: 7\n")
    with pytest.raises(Broken, match="Socket errors"):
        parse_wrk("  Socket errors: connect 0, read 3, write 0, timeout 0\n" + WRK)
    with pytest.raises(Broken, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused")


def test_a_probe_compares_with_the_fastest_seen() -> None:
    probe = Probe()
    core = min(os.sched_getaffinity(0))
    probe.fastest[core] = 1e-9
    assert probe.slowness(core) > 1.5
    assert os.sched_getaffinity(0) - {core} or os.cpu_count() == 1 or len(os.sched_getaffinity(0)) == 1


def test_tables_are_plain_text_and_say_where_nothing_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("peer", "ratio"), [["naive", 0.9721], ["none", None], ["many", 12345]])
    assert capsys.readouterr().out.splitlines() == ["peer    ratio", "naive   0.972", "none        —", "many   12,345"]


def test_batches_beside_a_slow_floor_are_discarded_and_a_round_of_few_too() -> None:
    fast, slow = (100, 500, 100), (160, 100, 160)
    mixed = [fast] * FEWEST_BATCHES + [slow] * FEWEST_BATCHES
    assert accept([[mixed, mixed]]) == [[400.0, 400.0]]
    assert accept([[mixed, mixed], [mixed, [slow] * 50]]) == [[400.0, 400.0]]
    assert accept([[[(100, 500, 160)] * 40, mixed]]) == []
    assert accept([[[(100, 500, 160)] * 40, mixed]], slow=math.inf) == [[400.0, 170.0]]


def test_the_floor_is_subtracted_and_more_work_takes_longer() -> None:
    async def lookups(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(100):
            scope["method"]

    app = constant(200, [], b"")
    cases = [Case("raw", app, [PATH], [HOST]), Case("lookups", lookups, [PATH], [HOST])]
    found = measure(cases, rounds=2, keep_noisy=True)
    assert found.figure("raw").median > 0
    assert found.figure("lookups").median > 2 * found.figure("raw").median
    assert found.ratio("raw", "raw").median == 1.0


def test_an_app_that_waits_is_refused() -> None:
    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="suspended"):
        measure([Case("waits", waits, [PATH], [HOST])], rounds=1, batches=BATCH)


def test_a_browser_sends_13_fields() -> None:
    assert len(browser_headers()) == 13
    assert dict(browser_headers(b"identity"))[b"accept-encoding"] == b"identity"


@pytest.mark.parametrize(
    ("now", "before", "slower"),
    [
        (Mark(1.14, 0.0), Mark(1.0, 0.0), False),
        (Mark(1.16, 0.0), Mark(1.0, 0.0), True),
        (Mark(1.16, 0.02), Mark(1.0, 0.0), False),
        (Mark(1.16, 0.0), Mark(1.0, 0.02), False),
        (Mark(0.5, 0.0), Mark(1.0, 0.0), False),
    ],
)
def test_slower_is_more_than_15_percent_beyond_chance(now: Mark, before: Mark, slower: bool) -> None:
    assert is_slower(now, before) is slower


def test_a_figure_has_to_be_slower_twice() -> None:
    measured = iter([{"hit": Mark(2.0, 0.0)}, {"hit": Mark(1.0, 0.0)}])
    rows, slower = regression.compare({"hit": Mark(1.0, 0.0)}, lambda _: next(measured))
    assert not slower
    assert rows[0][2] == 1.0


def test_the_stored_baseline_has_every_figure() -> None:
    stored = json.loads(regression.BASELINE.read_text())
    assert stored
    for marks in stored.values():
        assert {"hit, 1 field", "hit, 13 fields", "hit, gzip", "hit, 304", "miss", "miss, 13 fields"} <= marks.keys()


def test_no_baseline_for_this_interpreter_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert regression.main(["--baseline", str(tmp_path / "none.json")]) == 2
    assert "--update" in capsys.readouterr().err


def verdict(arguments: list[str]) -> int:
    """The exit code of the regression benchmark, once the machine is quiet enough for a verdict."""
    code = regression.main([*arguments, "--tries", "5"])
    if code == regression.EXIT_NOISY:
        pytest.skip("the machine kept changing its speed: no verdict in five tries")
    return code


@pytest.mark.slow
@pytest.mark.serial
def test_a_planted_slow_down_fails_and_the_code_as_it_is_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--baseline", str(tmp_path / "baseline.json"), "--rounds", "5"]
    assert verdict([*arguments, "--update"]) == 0
    assert verdict(arguments) == 0, capsys.readouterr()

    # The lookup is done twice: about a third on a hit with one field, and more with thirteen.
    def twice(*request: Any) -> object:
        resolve(*request)
        return resolve(*request)

    monkeypatch.setattr("hotpath.asgi.middleware.resolve", twice)
    assert verdict(arguments) == 1
    said = capsys.readouterr()
    assert "hit, 13 fields" in said.err
    assert "SLOWER" in said.out


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.parametrize(("way", "ratio"), [("--keep-noisy", "to_limit"), ("--paired", "cpu_to_limit")])
def test_serving_prints_a_table_below_what_it_depends_on(tmp_path: Path, way: str, ratio: str) -> None:
    pytest.importorskip("uvloop")
    pytest.importorskip("httptools")
    figures = tmp_path / "figures.json"
    options = ["--rounds", "1", "--seconds", "1", way, "--json", str(figures)]
    done = run("benchmarks/serving.py", *options, "--profiles", "identity", "304", "--peers", "hotpath", "naive")
    assert done.returncode == 0, done.stderr
    assert "uvicorn" in done.stdout
    assert "request '304'" in done.stdout
    rows = json.loads(figures.read_text())["rows"]
    peers = [(row["profile"], row["peer"]) for row in rows]
    assert peers == [
        (profile, peer)
        for profile, limit in (("identity", "raw"), ("304", "same-304"))
        for peer in (limit, "naive", "hotpath")
    ]
    assert all(0.1 < row[ratio]["median"] < 2 for row in rows)


@pytest.mark.slow
def test_items_and_memory_run(tmp_path: Path) -> None:
    figures = tmp_path / "items.json"
    done = run("benchmarks/items.py", "--counts", "5", "20", "--rounds", "1", "--keep-noisy", "--json", str(figures))
    assert done.returncode == 0, done.stderr
    assert [facts["items_in_memory"] for facts in json.loads(figures.read_text())["items"]] == [5, 20]
    options = ["--store", "4MiB", "--cap", "1MiB", "--body", "4KiB", "--seconds", "0.5", "--json", str(figures)]
    done = run("benchmarks/memory.py", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    assert found["requests"] > 0
    assert found["not_answered"] == 0
    assert 0 < found["accounted_max_bytes"] <= 1024 * 1024


@pytest.mark.slow
def test_inprocess_runs() -> None:
    done = run("benchmarks/inprocess.py", "--quick", "--rounds", "1", "--keep-noisy")
    assert done.returncode == 0, done.stderr
    assert "miss, 13 fields, added" in done.stdout


@pytest.mark.slow
def test_too_noisy_is_tried_again_and_then_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[int] = []

    def noisy(apps: object, rounds: int) -> dict[str, Mark]:
        measured.append(rounds)
        if len(measured) < quiet_at:
            raise TooNoisy("the machine kept changing its speed")
        return {"hit": Mark(1.0, 0.0)}

    monkeypatch.setattr(regression, "measured", noisy)
    arguments = ["--baseline", str(tmp_path / "b.json"), "--update"]
    quiet_at = 9
    assert regression.main(arguments) == regression.EXIT_NOISY == 75
    assert len(measured) == regression.TRIES == 3
    assert "could not tell (try 3 of 3)" in capsys.readouterr().err
    assert not (tmp_path / "b.json").exists()
    quiet_at = 5
    assert regression.main(arguments) == 0
    assert regression.main(arguments[:-1]) == 0


@pytest.mark.slow
def test_a_short_day_of_crawling_costs_no_hot_page() -> None:
    done = run("benchmarks/front_day.py", "--requests", "3000")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_night_at_several_machines_is_measured(tmp_path: Path) -> None:
    figures = tmp_path / "machines.json"
    done = run("benchmarks/machines.py", "--quick", "--only", "night", "--json", str(figures))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    if "night" not in found:
        pytest.skip(done.stdout.splitlines()[-2])
    assert found["night"]["share"] <= 0.011
    assert found["night"]["received_bytes"] == found["night"]["sent_bytes"]
