"""What ``hotpath status`` says: also of what is old and of what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotpath.batch.run import build
from hotpath.errors import BuildFailed
from hotpath.ops.status import lines, status
from hotpath.options import to_json
from hotpath.site import Hotpath
from hotpath.testing import FakeClock
from tests.store.faults.sites import edit

pytestmark = pytest.mark.usefixtures("items_in_this_process")


def test_it_counts_what_is_past_its_lifetime(tmp_path: Path) -> None:
    clock = FakeClock()
    hot = Hotpath(tmp_path)
    hot.store.clock = clock
    hot.route("/short", lifetime="1h")(lambda: [1])
    hot.route("/long", lifetime="2d")(lambda: [1])
    build(hot)
    assert status(hot.store).generations[0].stale == 0
    clock.advance(3601)
    found = status(hot.store)
    assert found.generations[0].stale == 1
    assert "1 item past their lifetime" in "\n".join(lines(found))


def test_a_clock_that_went_back_gives_no_negative_age(tmp_path: Path) -> None:
    clock = FakeClock()
    hot = Hotpath(tmp_path)
    hot.store.clock = clock
    hot.route("/a")(lambda: [1])
    build(hot)
    clock.advance(-86400)
    assert status(hot.store).generations[0].age_seconds == 0


def test_a_generation_that_cannot_be_read_is_shown_with_its_problem(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path)
    hot.route("/a")(lambda: [1])
    build(hot)
    build(hot)
    edit(hot.store.manifest_path(2), b"{}")
    found = status(hot.store)
    assert (found.serving, bool(found.degraded)) == (1, True)
    assert found.generations[0].problem
    text = "\n".join(lines(found))
    assert "DEGRADED" in text
    assert "unreadable" in text


def test_it_says_what_failed_in_the_last_run(tmp_path: Path) -> None:
    broken: list[int] = []
    hot = Hotpath(tmp_path)

    @hot.route("/{n}", each={"n": list(range(10))})
    def page(n: int) -> list[int]:
        if n in broken:
            raise ValueError("no data")
        return [n]

    build(hot)
    assert "last run" not in "\n".join(lines(status(hot.store)))
    broken.append(3)
    build(hot)
    told = lines(status(hot.store))
    assert told[-2] == "last run: published, 1 of 10 items failed"
    assert "/3: ValueError: no data" in told[-1]
    assert told[-1].endswith("its last good bytes stay")
    broken += range(5)
    with pytest.raises(BuildFailed):
        build(hot)
    told = lines(status(hot.store))
    assert told[-5].startswith("last run: failed, 5 of 10 items failed; that is more than may fail")
    assert told[-1] == "    … and 2 more, see runs/"
    assert to_json(status(hot.store))["last_run"]["outcome"] == "failed"


def test_a_site_of_watched_directories_alone_is_not_degraded(tmp_path: Path) -> None:
    (tmp_path / "kospi.json").write_text("[1]")
    hot = Hotpath(tmp_path / "hot")
    hot.directory("/indices/{name}", str(tmp_path / "{name}.json"))
    found = status(hot)
    assert (found.degraded, found.serving, found.is_hot) == (None, None, True)
    assert f"watching {tmp_path}/{{name}}.json for /indices/{{name}}: 1 file" in lines(found)
    assert [one["count"] for one in to_json(found)["directories"]] == [1]
    (tmp_path / "kospi.json").unlink()
    found = status(hot)
    assert not found.is_hot
    assert "serving nothing: every hot page goes to the app" in lines(found)


def test_routes_beside_a_directory_still_want_a_build(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot")
    hot.directory("/indices/{name}", str(tmp_path / "{name}.json"))
    hot.route("/a")(lambda: [1])
    assert "hotpath build" in str(status(hot).degraded)
