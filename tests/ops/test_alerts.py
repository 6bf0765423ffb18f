"""A failure is sent once by each way, again after a day, and once when it is over; nothing of it stops a batch."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from hotpath.errors import BuildFailed, DeclarationError, Implausible, ItemError, StoreBusy, StoreError, Unreachable
from hotpath.ops.alerts.alerts import Alerts
from hotpath.ops.alerts.environment import alerts_from_environment
from hotpath.ops.alerts.mail import Mail
from hotpath.ops.alerts.message import Message
from hotpath.ops.alerts.ping import Ping
from hotpath.ops.alerts.sent import alerts_path, read_open
from hotpath.ops.secret import Secret
from hotpath.store.store import Store
from hotpath.testing import FakeClock
from tests.ops.local import Answered, Server, hang, raw_server

DAY = 24 * 3600
WRONG = ("build.failed", "3 items failed")


@dataclass
class Pigeon:
    """A way that notes what it is given, and fails when told to."""

    name: str = "pigeon"
    problem: str | None = None
    sent: list[tuple[str, str]] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def send(self, message: Message) -> str | None:
        self.meanwhile()
        if self.problem is not None:
            raise Unreachable(self.name, self.problem)
        self.sent.append((message.event, message.kind))
        return None


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> Store:
    store = Store(tmp_path / "hot", clock=clock)
    with store.locked():
        pass
    return store


def test_a_nightly_job_that_is_a_little_early_reminds_every_night(store: Store, clock: FakeClock) -> None:
    pigeon = Pigeon()
    alerts = Alerts([pigeon], clock=clock)
    for _ in range(4):
        alerts.wrong(store, *WRONG)
        clock.advance(DAY - 3700)
    assert [event for event, _ in pigeon.sent] == ["failed", "reminder", "reminder", "reminder"]


def test_once_a_reminder_and_a_resolved(store: Store, clock: FakeClock) -> None:
    pigeon = Pigeon()
    alerts = Alerts([pigeon], clock=clock)
    assert alerts.wrong(store, *WRONG) == []
    for _ in range(3):
        clock.advance(DAY / 4)
        assert alerts.wrong(store, *WRONG) == []
    assert pigeon.sent == [("failed", "build.failed")]
    clock.advance(DAY / 4)
    alerts.wrong(store, *WRONG)
    assert pigeon.sent[1:] == [("reminder", "build.failed")]
    clock.advance(DAY / 2)
    alerts.wrong(store, *WRONG)
    assert len(pigeon.sent) == 2
    for _ in range(2):
        assert alerts.resolved(store, "build", "12 items") == []
    assert pigeon.sent[2:] == [("resolved", "build.failed")]
    alerts.wrong(store, *WRONG)
    assert pigeon.sent[3:] == [("failed", "build.failed")], "a new one after it was resolved"


def test_the_state_is_the_stores_and_not_the_process(store: Store, clock: FakeClock) -> None:
    first, second = Pigeon(), Pigeon()
    Alerts([first], clock=clock).wrong(store, *WRONG)
    Alerts([second], clock=clock).wrong(store, *WRONG)
    assert second.sent == []
    Alerts([second], clock=clock).resolved(store, "build", "fine")
    assert second.sent == [("resolved", "build.failed")]


def test_kinds_are_told_apart_and_resolved_by_area(store: Store, clock: FakeClock) -> None:
    pigeon = Pigeon()
    alerts = Alerts([pigeon], clock=clock)
    for kind in ("build.failed", "build.quarantined", "check.wrong", "build.failed"):
        alerts.wrong(store, kind, "bad")
    assert [kind for _, kind in pigeon.sent] == ["build.failed", "build.quarantined", "check.wrong"]
    alerts.resolved(store, "build", "fine")
    assert pigeon.sent[3:] == [("resolved", "build.failed"), ("resolved", "build.quarantined")]
    assert list(read_open(store)) == [("check.wrong", "")]


def test_what_failures_are_about_keeps_them_apart(store: Store, clock: FakeClock) -> None:
    pigeon = Pigeon()
    alerts = Alerts([pigeon], clock=clock)
    one, two = "https://one.example.org", "https://two.example.org"
    for base in (one, two, one, two):
        alerts.wrong(store, "check.wrong", "bad", about=base)
    assert len(pigeon.sent) == 2
    alerts.resolved(store, "check", "fine", about=two)
    assert pigeon.sent[2:] == [("resolved", "check.wrong")]
    assert list(read_open(store)) == [("check.wrong", one)]
    alerts.wrong(store, "check.store", "unreadable")
    alerts.resolved(store, "check", "fine", about=two)
    assert list(read_open(store)) == [("check.wrong", one)], "what is about no site is over too"


def test_text_that_is_no_utf_8_and_controls_are_escaped_in_alerts(store: Store) -> None:
    class Letters(Pigeon):
        def send(self, message: Message) -> str | None:
            texts.append(message.text)
            return super().send(message)

    texts: list[str] = []
    Alerts([Letters()]).wrong(store, *WRONG, ["/data/\udcff.csv \x1b[2J \u202egnp\x7f\x9b"])
    assert "/data/\\udcff.csv \\x1b[2J \\u202egnp\\x7f\\x9b" in texts[0]
    texts[0].encode()


def test_a_stuck_build_is_an_alert_after_two_nights_that_names_the_holder(store: Store, clock: FakeClock) -> None:
    pigeon = Pigeon()
    alerts = Alerts([pigeon], clock=clock)
    with store.locked(), pytest.raises(StoreBusy) as busy, store.locked():
        pass
    clock.now = time.time() + 1
    with store.locked():
        assert alerts.failed(store, busy.value) == []
        clock.now += 24 * 3600
        assert alerts.failed(store, busy.value) == [], "a build may take a while"
        clock.now += 24 * 3600
        (warning,) = alerts.failed(store, busy.value)
        assert f"process {os.getpid()} (" in warning
        assert "pytest" in warning
        assert "has held the lock of" in warning
        assert "(2 d)" in warning
        assert pigeon.sent == [("failed", "build.busy")]
        alerts.failed(store, busy.value)
        assert len(pigeon.sent) == 1
    assert alerts.failed(store, busy.value) == [], "it is free meanwhile"
    alerts.succeeded(store, "published")
    assert pigeon.sent[1:] == [("resolved", "build.busy")]


def test_a_way_that_fails_is_a_warning_and_is_tried_again(store: Store, clock: FakeClock) -> None:
    good, dead = Pigeon("good"), Pigeon("dead", problem="connection refused")
    alerts = Alerts([good, dead], clock=clock)
    assert alerts.wrong(store, *WRONG) == ["alert not sent: dead: connection refused"]
    dead.problem = None
    assert alerts.wrong(store, *WRONG) == []
    assert (len(good.sent), len(dead.sent)) == (1, 1)
    dead.problem = "connection refused"
    assert alerts.resolved(store, "build", "fine") == ["alert not sent: dead: connection refused"]
    dead.problem = None
    alerts.resolved(store, "build", "fine")
    assert (good.sent[-1][0], dead.sent[-1][0], len(good.sent), len(dead.sent)) == ("resolved", "resolved", 2, 2)


def test_a_way_that_never_told_of_it_does_not_say_that_it_is_over(store: Store, clock: FakeClock) -> None:
    Alerts([Pigeon("old")], clock=clock).wrong(store, *WRONG)
    new = Pigeon("new")
    Alerts([new], clock=clock).resolved(store, "build", "fine")
    assert new.sent == []


def test_whatever_a_way_raises_is_a_warning_without_its_text(store: Store) -> None:
    class Broken(Pigeon):
        def send(self, message: Message) -> str | None:
            raise RuntimeError("token T0KEN")

    assert Alerts([Broken()]).wrong(store, *WRONG) == ["alert not sent: pigeon: RuntimeError"]


def test_dead_ways_are_waited_for_at_once_and_do_not_keep_the_others(store: Store) -> None:
    good = Pigeon("good")
    all_at_once = threading.Barrier(3)

    def slow(name: str) -> Pigeon:
        return Pigeon(name, problem="not done within 10 s", meanwhile=lambda: all_at_once.wait(60))

    warnings = Alerts([slow("one"), slow("two"), slow("three"), good]).wrong(store, *WRONG)
    assert warnings == [f"alert not sent: {name}: not done within 10 s" for name in ("one", "two", "three")]
    assert len(good.sent) == 1


def test_a_dead_way_is_waited_for_once_a_night_and_tried_the_next(store: Store, clock: FakeClock) -> None:
    seconds = FakeClock()
    dead = Pigeon("dead", meanwhile=lambda: seconds.advance(10))
    alerts = Alerts([dead], clock=clock, monotonic=seconds)
    alerts.wrong(store, "pin.holds", "pinned")
    dead.problem = "not done within 10 s"
    begun = seconds()
    told = [
        *alerts.wrong(store, *WRONG),
        *alerts.wrong(store, "items.failed", "2 items failed"),
        *alerts.resolved(store, "pin", "no pin"),
    ]
    assert seconds() - begun == 10
    assert told == [
        "alert not sent: dead: not done within 10 s",
        "alert not sent: dead: not tried again so soon: not done within 10 s",
        "alert not sent: dead: not tried again so soon: not done within 10 s",
    ]
    dead.problem = None
    seconds.advance(60)
    assert alerts.wrong(store, *WRONG) == []
    assert alerts.resolved(store, "pin", "no pin") == []
    assert dead.sent == [("failed", "pin.holds"), ("failed", "build.failed"), ("resolved", "pin.holds")]


def test_an_event_loop_goes_on_meanwhile(store: Store) -> None:
    """Called by way of a thread, as the documents say, it leaves the loop alone for all of a dead server's timeout."""
    with raw_server(hang) as port:
        alerts = Alerts([Mail("127.0.0.1", ("a@b.c",), "a@b.c", port=port, tls=False, timeout_seconds=0.5)])
        ticks: list[float] = []

        async def main() -> list[str]:
            async with anyio.create_task_group() as tasks:

                async def tick() -> None:
                    while True:
                        await anyio.sleep(0.01)
                        ticks.append(time.monotonic())

                tasks.start_soon(tick)
                warnings = await anyio.to_thread.run_sync(lambda: alerts.wrong(store, *WRONG))
                tasks.cancel_scope.cancel()
            return warnings

        (warning,) = anyio.run(main)
    assert "within 0.5 s" in warning
    assert len(ticks) > 5, "a loop that waits has one before, and one after"


def test_a_run_pings_and_alerts(store: Store, clock: FakeClock) -> None:
    pigeon = Pigeon()
    with Server(lambda asked: Answered(200)) as server:
        alerts = Alerts([pigeon], ping=Ping(Secret(f"{server.url}/id")), clock=clock)
        assert alerts.started() == []
        failure = BuildFailed([ItemError("no prices", key="/rankings/kospi")], 12, "it is critical")
        assert alerts.failed(store, failure) == []
        assert alerts.started() == []
        assert alerts.succeeded(store, "12 items") == []
    assert [asked.target for asked in server.asked] == ["/id/start", "/id/fail", "/id/start", "/id"]
    assert pigeon.sent == [("failed", "build.failed"), ("resolved", "build.failed")]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BuildFailed([], 2, "x"), "build.failed"),
        (Implausible(3, ["half the rows"], path=Path("r")), "build.quarantined"),
        (StoreError("no space", path="x"), "build.store"),
        (DeclarationError("x"), "build.error"),
        (ZeroDivisionError(), "build.error"),
        (StoreBusy(path="x", pid=1), None),
    ],
)
def test_the_kind_of_each_failure(store: Store, error: Exception, kind: str | None) -> None:
    pigeon = Pigeon()
    assert Alerts([pigeon]).failed(store, error) == []
    assert pigeon.sent == ([("failed", kind)] if kind else [])


def test_a_ping_that_does_not_work_is_a_warning(store: Store) -> None:
    with Server(lambda asked: Answered(500)) as server:
        alerts = Alerts(ping=Ping(Secret(f"{server.url}/T0KEN")))
        (warning,) = alerts.started()
    assert warning == f"not pinged: ping {server.url}/***: it answered 500"


def test_a_torn_line_loses_only_itself(store: Store, clock: FakeClock) -> None:
    pigeon = Pigeon()
    alerts = Alerts([pigeon], clock=clock)
    alerts.wrong(store, "build.failed", "bad")
    path = alerts_path(store)
    path.write_bytes(path.read_bytes() + b'{"time": 1, "eve')
    alerts.wrong(store, "check.wrong", "bad")
    alerts.wrong(store, "build.failed", "bad")
    alerts.wrong(store, "check.wrong", "bad")
    assert len(pigeon.sent) == 2
    assert sorted(read_open(store)) == [("build.failed", ""), ("check.wrong", "")]


def test_a_store_that_cannot_be_written_does_not_keep_an_alert_back(tmp_path: Path) -> None:
    pigeon = Pigeon()
    (warning,) = Alerts([pigeon]).wrong(Store(tmp_path / "nowhere" / "hot"), *WRONG)
    assert "could not be noted, so they will be sent again" in warning
    assert len(pigeon.sent) == 1
    root = tmp_path / "hot"
    root.mkdir()
    (root / "alerts.jsonl").symlink_to("/etc/passwd")
    warnings = Alerts([pigeon]).wrong(Store(root), *WRONG)
    assert len(pigeon.sent) == 2
    assert any("symbolic link" in warning for warning in warnings)


def test_two_processes_that_fail_at_once_send_one_alert(store: Store, clock: FakeClock) -> None:
    entered = threading.Event()

    def dawdle() -> None:
        entered.set()
        time.sleep(0.3)

    pigeon = Pigeon(meanwhile=dawdle)
    first = threading.Thread(target=Alerts([pigeon], clock=clock).wrong, args=(store, *WRONG))
    first.start()
    assert entered.wait(5)
    Alerts([pigeon], clock=clock).wrong(store, *WRONG)
    first.join(5)
    assert pigeon.sent == [("failed", "build.failed")]


def test_a_test_says_of_each_way_what_happened() -> None:
    with Server(lambda asked: Answered(200)) as server:
        alerts = Alerts([Pigeon("a"), Pigeon("b", problem="refused")], ping=Ping(Secret(f"{server.url}/id")))
        told = [(one.way, one.problem) for one in alerts.test()]
    assert told == [("a", None), ("b", "refused"), (f"ping {server.url}/***", None)]


# The environment.


def test_nothing_set_is_nothing_configured() -> None:
    assert not alerts_from_environment({"HOTPATH_ALERT_WEBHOOK": " ", "PATH": "/bin"})


def test_everything_set() -> None:
    alerts = alerts_from_environment(
        {
            "HOTPATH_ALERT_SMTP_HOST": "mail.example.org",
            "HOTPATH_ALERT_SMTP_PORT": "2525",
            "HOTPATH_ALERT_SMTP_USER": "me",
            "HOTPATH_ALERT_SMTP_PASSWORD": "s3cret",
            "HOTPATH_ALERT_SMTP_TLS": "STARTTLS",
            "HOTPATH_ALERT_MAIL_TO": "a@example.org, b@example.org",
            "HOTPATH_ALERT_MAIL_FROM": "hotpath@example.org",
            "HOTPATH_ALERT_WEBHOOK": "https://hooks.example.org/T0KEN",
            "HOTPATH_ALERT_PING": "https://hc.example.org/1d",
            "HOTPATH_ALERT_REMIND": "12h",
            "HOTPATH_ALERT_SITE": "prices",
        }
    )
    mail, _ = alerts.ways
    assert isinstance(mail, Mail)
    assert (mail.to, mail.port, mail.tls) == (("a@example.org", "b@example.org"), 2525, True)
    assert [way.name for way in alerts.ways] == [
        "mail to a@example.org, b@example.org",
        "webhook https://hooks.example.org/***",
    ]
    assert (alerts.remind_seconds, alerts.site) == (12 * 3600, "prices")
    assert "s3cret" not in repr(alerts.ways)
    assert "T0KEN" not in repr(alerts.ways)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise's own
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"SMTP_HOST": "mail.example.org"}, "HOTPATH_ALERT_MAIL_TO is missing"),
        ({"MAIL_TO": "a@b.c"}, "HOTPATH_ALERT_SMTP_HOST is missing"),
        ({"SMTP_HOST": "h", "MAIL_TO": "a@b.c", "MAIL_FROM": "a@b.c", "SMTP_PORT": "x"}, "HOTPATH_ALERT_SMTP_PORT='x'"),
        ({"SMTP_HOST": "h", "MAIL_TO": "a@b.c", "MAIL_FROM": "a@b.c", "SMTP_TLS": "yes"}, "write 'starttls'"),
        ({"SMTP_HOST": "h", "MAIL_TO": "a@b.c", "MAIL_FROM": "a@b.c", "SMTP_PASSWORD": "s3cret"}, "go together"),
        ({"WEBHOOK": "hooks.example.org/s3cret"}, "HOTPATH_ALERT_WEBHOOK"),
        ({"PING": "s3cret"}, "HOTPATH_ALERT_PING"),
        ({"APPRISE": "nonsense://s3cret"}, "HOTPATH_ALERT_APPRISE"),
        ({"REMIND": "often"}, "HOTPATH_ALERT_REMIND"),
        ({"SMPT_HOST": "s3cret"}, "HOTPATH_ALERT_SMPT_HOST is no setting; there are"),
    ],
)
def test_a_wrong_setting_is_named_and_no_secret_shown(given: dict[str, str], told: str) -> None:
    with pytest.raises(DeclarationError, match=told) as error:
        alerts_from_environment({f"HOTPATH_ALERT_{name}": value for name, value in given.items()})
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("seconds", [0, -1])
def test_alerts_that_could_not_work(seconds: int) -> None:
    with pytest.raises(DeclarationError):
        Alerts(remind_seconds=seconds)
    with pytest.raises(DeclarationError, match="are the same"):
        Alerts([Pigeon(), Pigeon()])
