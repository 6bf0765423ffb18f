"""What waits for a person stands first, with the command that ends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hotpath.dashboard.facts import (
    AppFacts,
    BatchRun,
    GuardFacts,
    HeldBack,
    LiveFacts,
    OpenAlert,
    StatusFacts,
    StoredGeneration,
    StoreFacts,
)
from hotpath.dashboard.waiting import headline, notices
from hotpath.ops.status import FollowStatus

NOW = 1_800_000_000
DAY = 86400
WELL = StoreFacts(
    "/var/hot", serving=7, created=NOW - 3600, newest=7, hot=10, declared=10, lifetime=26 * 3600,
    generations=(StoredGeneration(7, NOW - 3600, is_serving=True),),
)  # fmt: skip
GUARD = GuardFacts("NORMAL", "start", None, 0.4, 400, 1000, 0.0, float("inf"), 1, 0, 0, 1, False, {})
APP = AppFacts("http://127.0.0.1:9000", True, False, 1, 0, 0)
RUN = BatchRun(NOW - 3600, 7, "failed", 10, 100, 10, 4, 1.0, failed=(("/a", "boom"),), problems=("4 of 10",))


ORIGIN = FollowStatus("s3://bucket/site", 8, 600, 5, silent=False, ahead=False, error="no answer")


def facts(target: str = "app:hot", **more: Any) -> StatusFacts:
    store = replace(WELL, **{name: more.pop(name) for name in [*more] if name in StoreFacts.__dataclass_fields__})
    return StatusFacts(NOW, target, more.pop("whole", store), **more)


def test_nothing_waits_where_all_is_well() -> None:
    well = facts(guard=GUARD, app=APP, origin=replace(ORIGIN, lag_seconds=60))
    assert notices(well) == []
    assert headline(well, []) == ("All is well: hot pages are up", "good")


@pytest.mark.parametrize(
    ("more", "level", "title", "command"),
    [
        ({"serving": None, "degraded": "nothing"}, "bad", "No hot page is served", "hotpath build app:hot"),
        ({"degraded": "CURRENT is gone"}, "warn", "Degraded: generation 7", "hotpath verify app:hot --repair"),
        ({"damages": ("a is missing",)}, "warn", "1 file of the generation was", "hotpath verify app:hot --repair"),
        ({"pinned": 7, "newest": 8}, "warn", "Generation 7 is pinned", "hotpath unpin app:hot"),
        ({"pinned": 7}, "note", "Generation 7 is pinned", "hotpath unpin app:hot"),
        ({"held_back": (HeldBack(8, ("few rows",), True),)}, "warn", "Generation 8 is in quarantine",
         "hotpath approve app:hot 8 --reason 'why it is right'"),
        ({"origin": ORIGIN}, "warn", "This machine is behind its origin for 10 min", "hotpath status app:hot --origin"),
        ({"origin": replace(ORIGIN, silent=True)}, "warn", "Nothing follows the origin", "hotpath follow app:hot"),
        ({"origin": replace(ORIGIN, error=None, ahead=True)}, "warn", "Generation 7 was not sent",
         "hotpath push app:hot"),
        ({"open_recovery": "step purge failed"}, "warn", "A recovery has not come", "hotpath recover app:hot"),
        ({"runs": (RUN,)}, "warn", "The last batch failed: 4 of 10 items", "hotpath build app:hot --retry-failed"),
        ({"runs": (replace(RUN, outcome="published"),)}, "note", "4 items of the last batch failed",
         "hotpath build app:hot --retry-failed"),
        ({"generations": (StoredGeneration(7, NOW - 3 * DAY),)}, "warn", "The batch is late", "hotpath build app:hot"),
        ({"guard": replace(GUARD, state="BLIND")}, "warn", "The memory guard is BLIND", "cat /proc/self/cgroup"),
        ({"guard": replace(GUARD, state="SHED")}, "warn", "Memory is short (SHED)", "hotpath audit ."),
        ({"guard": replace(GUARD, is_suppressed=True)}, "warn", "Recycling workers does not help", "hotpath audit ."),
        ({"app": replace(APP, is_paused=True)}, "warn", "The app is paused", "hotpath resume"),
        ({"app": replace(APP, is_up=False)}, "warn", "The app is down", "hotpath reload"),
        ({"alerts": (OpenAlert("check.wrong", "https://example.org", NOW - 60),)}, "note", "An alert is open",
         "hotpath check app:hot --base-url https://example.org --alert"),
    ],
)  # fmt: skip
def test_each_thing_that_waits_has_its_command(more: dict[str, Any], level: str, title: str, command: str) -> None:
    (notice,) = notices(facts(**more))
    assert notice.level == level
    assert notice.title.startswith(title)
    assert notice.commands[0] == command


def test_the_most_urgent_is_first_and_names_the_page() -> None:
    waiting = notices(facts(serving=None, app=replace(APP, is_up=False), alerts=(OpenAlert("pin.holds", "", NOW),)))
    assert [notice.level for notice in waiting] == ["bad", "warn", "note"]
    assert headline(facts(), waiting) == ("No hot page is served", "bad")


def test_what_this_process_still_serves_is_not_down() -> None:
    live = LiveFacts(7, "the store cannot be read", False, 10, 0, 0, 0, {}, [])
    (notice,) = notices(facts(serving=None, live=live))
    assert notice.level == "warn"


def test_of_a_store_alone_the_build_needs_a_target_and_a_path_is_quoted() -> None:
    (notice,) = notices(facts("/srv/my site/hot", pinned=7, newest=8))
    assert notice.commands == ("hotpath unpin '/srv/my site/hot'",)
    (notice,) = notices(facts("/srv/my site/hot", serving=None))
    assert notice.commands == ("hotpath build TARGET",)


def test_a_generation_that_a_newer_one_has_overtaken_cannot_be_approved_and_waits_for_nobody() -> None:
    assert notices(facts(held_back=(HeldBack(6, ("few rows",), False),))) == []
