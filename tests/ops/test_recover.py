"""What ``recover`` does in each kind of bad night, what it says, and where it stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hotpath.errors import DeclarationError, StoreBusy
from hotpath.ops.check import CheckOptions
from hotpath.ops.purge.purger import Purged
from hotpath.ops.recovery.incident import RecoveryOptions
from hotpath.ops.recovery.journal import DONE, FAILED, SKIPPED, Journal, JournalEntry
from hotpath.ops.recovery.recover import SAME_NIGHT_SECONDS, Recovery, ending, lines, plan, plan_lines, recover
from hotpath.site import Hotpath
from hotpath.store.quarantine import approve
from hotpath.testing import FakeClock
from tests.ops.conftest import SmallSite
from tests.ops.local import Answered, Asked, closed_port, public_site

pytestmark = pytest.mark.usefixtures("items_in_this_process")

AT_ONCE = CheckOptions(wait_seconds=0)


@dataclass
class Edge:
    """A purger that notes its calls."""

    name: str = "edge"
    problem: str | None = None
    purged: list[str] = field(default_factory=list)

    def purge(self, urls: Sequence[str]) -> Purged:
        if self.problem is not None:
            return Purged(self.name, 0, self.problem, urls[0])
        self.purged += urls
        return Purged(self.name, len(urls))


@pytest.fixture
def two(site: SmallSite) -> SmallSite:
    """Two generations; the rankings of the second are others."""
    site.bump = 1
    site.build()
    return site


def states(found: Recovery) -> dict[str, str]:
    return {entry.step: entry.state for entry in found.steps}


def told(found: Recovery, step: str) -> str:
    return next(entry.text for entry in found.steps if entry.step == step)


def damage(site: SmallSite, sequence: int, name: str = "rankings/kospi.json") -> None:
    path = site.hot.store.files_path(sequence) / name
    path.unlink()
    path.write_bytes(b"{}")


def test_a_sound_store_is_left_alone(two: SmallSite) -> None:
    found = recover(two.hot, RecoveryOptions())
    assert (found.finished, found.serving) == (True, 2)
    assert states(found) == {
        "verify": DONE,
        "roll back": DONE,
        "build": SKIPPED,
        "validate": SKIPPED,
        "publish": SKIPPED,
        "purge": SKIPPED,
        "warm": SKIPPED,
        "check": SKIPPED,
    }
    assert told(found, "roll back") == "generation 2 is whole and stays"


def test_a_second_run_changes_nothing_and_shows_the_same_checklist(two: SmallSite) -> None:
    first = recover(two.hot, RecoveryOptions())
    journal = Journal(two.hot.store).path
    before = journal.read_bytes(), journal.stat().st_mtime_ns
    second = recover(two.hot, RecoveryOptions())
    assert (journal.read_bytes(), journal.stat().st_mtime_ns) == before
    assert (first.changed, second.changed) == (True, False)
    assert lines(second)[:-2] == lines(first)[:-1]
    assert "nothing was changed" in ending(second)[-1]


@pytest.mark.slow
def test_damage_goes_back_to_the_newest_valid_generation(two: SmallSite) -> None:
    two.bump = 2
    two.build()
    damage(two, 3)
    damage(two, 2)
    found = recover(two.hot, RecoveryOptions())
    assert (found.finished, found.serving) == (True, 1)
    assert "2 cannot be repaired" in told(found, "verify")
    assert "back from generation 3 to 1, which is pinned" in told(found, "roll back")
    assert not recover(two.hot, RecoveryOptions()).changed


def test_damage_that_can_be_repaired_is_no_reason_to_go_back(two: SmallSite) -> None:
    path = two.hot.store.files_path(2) / "stocks/s1.json"
    path.unlink()
    path.write_bytes(b"{}")
    found = recover(two.hot, RecoveryOptions())
    assert "repaired, every file is right" in told(found, "verify")
    assert found.serving == 2


def test_nothing_to_go_back_to_says_what_to_do(site: SmallSite) -> None:
    damage(site, 1)
    found = recover(site.hot, RecoveryOptions(), target="app:hot")
    assert not found.finished
    assert states(found) == {"verify": DONE, "roll back": FAILED}
    assert found.failed is not None
    assert found.failed.next_step is not None
    assert "hotpath recover app:hot --build" in found.failed.next_step
    again = recover(site.hot, RecoveryOptions(build=True), target="app:hot")
    assert (again.finished, again.serving, again.recovery) == (True, 2, found.recovery)


def test_an_empty_store_is_built(tmp_path: Path) -> None:
    site = SmallSite(tmp_path / "new")
    assert recover(site.hot, RecoveryOptions()).failed is not None
    found = recover(site.hot, RecoveryOptions(build=True))
    assert (found.finished, found.serving) == (True, 1)


def test_asked_to_go_back_it_goes_back_once(two: SmallSite) -> None:
    for _ in range(3):
        found = recover(two.hot, RecoveryOptions(rollback=True))
        assert (found.finished, found.serving) == (True, 1)
    assert two.hot.store.bad() == {2: "generation 2 is not wanted (--rollback)"}


@pytest.mark.slow
def test_after_the_night_or_when_told_it_is_another_recovery(two: SmallSite) -> None:
    two.bump = 2
    two.build()
    clock = FakeClock()
    two.hot.store.clock = clock
    assert recover(two.hot, RecoveryOptions(rollback=True)).serving == 2
    assert recover(two.hot, RecoveryOptions(rollback=True), new=True).recovery == 2
    assert two.hot.store.chosen_sequence() == 1
    found = recover(two.hot, RecoveryOptions())
    assert (found.recovery, found.changed) == (2, False)
    clock.advance(SAME_NIGHT_SECONDS + 1)
    assert recover(two.hot, RecoveryOptions()).recovery == 3


@pytest.mark.slow
def test_what_was_published_since_is_another_recovery(two: SmallSite) -> None:
    assert recover(two.hot, RecoveryOptions()).recovery == 1
    two.bump = 2
    two.build()
    assert recover(two.hot, RecoveryOptions()).recovery == 2


@pytest.mark.slow
def test_a_build_after_a_rollback_is_served(two: SmallSite) -> None:
    two.bump = 5
    found = recover(two.hot, RecoveryOptions(rollback=True, build=True))
    assert (found.finished, found.serving) == (True, 3)
    assert told(found, "publish") == "generation 3 is served; 1 is no longer pinned"
    assert not recover(two.hot, RecoveryOptions(rollback=True, build=True)).changed
    assert two.hot.store.sequences() == [1, 2, 3]


@pytest.mark.slow
def test_a_pin_of_somebody_else_stays(two: SmallSite) -> None:
    two.hot.store.pin(1)
    found = recover(two.hot, RecoveryOptions(build=True), target="app:hot")
    assert (found.finished, found.serving) == (True, 1)
    assert "1 was pinned before and stays served until 'hotpath unpin app:hot'" in told(found, "publish")


@pytest.mark.slow
def test_a_batch_that_fails_stops_it(two: SmallSite) -> None:
    two.broken = ValueError("no database")
    found = recover(two.hot, RecoveryOptions(build=True))
    assert (found.finished, found.serving) == (False, 2)
    assert found.failed is not None
    assert found.failed.step == "build"
    assert "no database" in found.failed.text
    two.broken = None
    again = recover(two.hot, RecoveryOptions(build=True))
    assert (again.finished, again.recovery, again.serving) == (True, found.recovery, 3)


def test_an_implausible_result_stops_it_until_it_is_approved(two: SmallSite) -> None:
    two.rows = 2
    for sequence in (3, 4):
        found = recover(two.hot, RecoveryOptions(build=True), target="app:hot", run_batch=_refused)
        assert found.failed is not None
        assert found.failed.step == "validate"
        assert found.failed.next_step is not None
        assert f"hotpath approve app:hot {sequence} --reason" in found.failed.next_step
        assert found.serving == 2
    approve(two.hot.store, 4, "it is a holiday")
    again = recover(two.hot, RecoveryOptions(build=True), run_batch=_refused)
    assert (again.finished, again.serving) == (True, 4)


def _refused(hot: Hotpath) -> object:
    from hotpath.store.manifest import Manifest
    from hotpath.store.publish import staging

    def validate(manifest: Manifest, previous: Manifest | None) -> list[str]:
        return ["half of the rows are gone"]

    with staging(hot.store) as stage:
        assert stage.previous is not None
        item = next(iter(stage.previous.items.values()))
        stage.add(item.key, item.identity.file, b"[1]", item.policy)
        return stage.publish(validate)


def test_the_public_is_purged_warmed_and_checked(two: SmallSite) -> None:
    edge = Edge()
    with public_site(two.hot) as server:
        options = RecoveryOptions(rollback=True, base_url=server.url + "/", purgers=[edge], check=AT_ONCE)
        found = recover(two.hot, options)
        assert found.finished
        assert sorted(edge.purged) == [f"{server.url}/rankings/kospi", f"{server.url}/rankings/nyse"]
        assert told(found, "warm") == "2 pages answered 200"
        assert told(found, "check") == "12 of 12 pages asked for, every answer is generation 1"
        assert not recover(two.hot, options).changed
        assert len(edge.purged) == 2


def test_a_firewall_lets_the_whole_recovery_pass_by_its_user_agent(two: SmallSite) -> None:
    def firewall(asked: Asked, answer: Answered) -> Answered:
        return answer if asked.headers["user-agent"] == "our check" else Answered(403)

    with public_site(two.hot, firewall) as server:
        let_pass = replace(AT_ONCE, user_agent="our check")
        assert recover(two.hot, RecoveryOptions(rollback=True, base_url=server.url, check=let_pass)).finished


def test_a_healthy_site_is_not_purged_unless_all_is_asked_for(two: SmallSite) -> None:
    edge = Edge()
    with public_site(two.hot) as server:
        found = recover(two.hot, RecoveryOptions(base_url=server.url, purgers=[edge], check=AT_ONCE))
        assert told(found, "purge") == "no URL has other bytes in generation 2 than before"
        assert edge.purged == []
        found = recover(
            two.hot, RecoveryOptions(base_url=server.url, purgers=[edge], check=AT_ONCE, purge_all=True), new=True
        )
        assert found.finished
    assert len(edge.purged) == 12


@pytest.mark.slow
def test_what_was_served_meanwhile_is_purged_too(two: SmallSite) -> None:
    """The edge may hold 2 from before, and 1 from between the rollback and the build."""
    edge = Edge()
    with public_site(two.hot) as server:
        recover(two.hot, RecoveryOptions(rollback=True, base_url=server.url, check=AT_ONCE))
        recover(two.hot, RecoveryOptions(build=True, base_url=server.url, purgers=[edge], check=AT_ONCE))
    assert two.hot.store.chosen_sequence() == 3
    assert len(edge.purged) == 2, "3 has the bytes of 2, and yet 1 was served"


def test_a_purge_that_fails_stops_it_before_anything_is_warmed(two: SmallSite) -> None:
    edge = Edge(problem="403: no permission")
    with public_site(two.hot) as server:
        options = RecoveryOptions(rollback=True, base_url=server.url, purgers=[edge], check=AT_ONCE)
        found = recover(two.hot, options)
        assert found.failed is not None
        assert found.failed.step == "purge"
        assert "403: no permission" in found.failed.text
        assert server.asked == []
        edge.problem = None
        assert recover(two.hot, options).finished


def test_a_site_that_is_down_stops_it(two: SmallSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotpath.ops.recovery.steps.WARM_SECONDS", 0.5)
    found = recover(two.hot, RecoveryOptions(base_url=f"http://127.0.0.1:{closed_port()}"))
    assert found.failed is not None
    assert found.failed.step == "warm"
    assert "connection refused" in found.failed.text


def test_a_public_answer_that_is_wrong_stops_it_and_the_next_run_looks_again(two: SmallSite) -> None:
    wrong = [True]
    with public_site(
        two.hot, lambda asked, found: type(found)(503) if wrong[0] and "s3" in asked.target else found
    ) as s:
        options = RecoveryOptions(base_url=s.url, check=AT_ONCE)
        found = recover(two.hot, options)
        assert found.failed is not None
        assert "could not look at 1 of 12 pages" in found.failed.text
        assert "expected 200, found 503" in found.failed.text
        wrong[0] = False
        assert recover(two.hot, options).finished
        wrong[0] = True
        assert not recover(two.hot, options).finished, "a finished one that no longer holds"


def test_a_plan_changes_nothing_and_asks_nobody(two: SmallSite) -> None:
    before = sorted(two.hot.store.root.rglob("*"))
    with public_site(two.hot) as server:
        options = RecoveryOptions(rollback=True, build=True, base_url=server.url, purgers=[Edge()])
        found = plan(two.hot, options)
        assert server.asked == []
    assert sorted(two.hot.store.root.rglob("*")) == before
    steps = {planned.step: planned.would for planned in found.steps}
    assert (
        "generation 2 is not wanted (--rollback); go back to generation 1, the newest valid one" in steps["roll back"]
    )
    assert steps["build"] == "run the batch, 12 items"
    assert "from generation 2: edge" in steps["purge"]
    assert plan_lines(found)[0] == "recovery 1 would begin; nothing is changed now"


def test_a_plan_says_where_it_would_stop(site: SmallSite) -> None:
    damage(site, 1)
    found = plan(site.hot, RecoveryOptions())
    assert found.steps[-1].step == "roll back"
    assert found.steps[-1].would.startswith("stop: generation 1 is damaged")


def test_two_at_once_are_one_too_many(two: SmallSite) -> None:
    with Journal(two.hot.store).held(), pytest.raises(StoreBusy) as told:
        recover(two.hot, RecoveryOptions())
    assert told.value.exit_code == 75


def test_a_build_at_the_same_time_is_busy_and_goes_on_later(two: SmallSite) -> None:
    with two.hot.store.locked(), pytest.raises(StoreBusy):
        recover(two.hot, RecoveryOptions(rollback=True))
    found = recover(two.hot, RecoveryOptions(rollback=True))
    assert (found.finished, found.recovery, found.serving) == (True, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["example.org", "https://me:pw@example.org"])
def test_a_wrong_base_url_is_said_before_anything_is_done(two: SmallSite, url: str) -> None:
    with pytest.raises(DeclarationError):
        recover(two.hot, RecoveryOptions(base_url=url))
    assert not Journal(two.hot.store).path.exists()


# The journal.


def entry(recovery: int, step: str) -> JournalEntry:
    return JournalEntry(1, recovery, DONE, step, "told", None, {"serving": 1})


def test_a_journal_gives_back_what_was_written(site: SmallSite) -> None:
    journal = Journal(site.hot.store)
    assert journal.last() == []
    for number, step in ((1, "verify"), (2, "verify"), (2, "build")):
        journal.append(entry(number, step))
    assert journal.last() == [entry(2, "verify"), entry(2, "build")]


def test_a_torn_line_loses_only_itself(site: SmallSite) -> None:
    journal = Journal(site.hot.store)
    journal.append(entry(1, "verify"))
    journal.path.write_bytes(journal.path.read_bytes() + b'{"time": 1, "reco')
    journal.append(entry(1, "build"))
    assert journal.last() == [entry(1, "verify"), entry(1, "build")]


def test_a_journal_that_is_a_link_is_refused(site: SmallSite, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    Journal(site.hot.store).path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="symbolic link"):
        recover(site.hot, RecoveryOptions())
    assert (tmp_path / "elsewhere").read_bytes() == b""
