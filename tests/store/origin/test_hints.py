"""A hint wakes whoever listens, and nothing else depends on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotpath.errors import DeclarationError
from hotpath.store.origin import Follower
from hotpath.store.origin.hints import Hints
from hotpath.testing import FakeClock
from tests.caching.shared.conftest import Proxy as SlowWay
from tests.caching.shared.conftest import Server, free_port, proxy, server, start_server
from tests.store.origin.fake import FakeObjects
from tests.store.origin.machines import Machine, pages

__all__ = ["proxy", "server", "start_server"]

Hinting = Callable[..., Hints]


@pytest.fixture
def hints_of() -> Iterator[Hinting]:
    """Makes hints that end with the test."""
    made: list[Hints] = []

    def make(url: str, prefix: str = "site") -> Hints:
        made.append(Hints(url, prefix))
        return made[-1]

    yield make
    for each in made:
        each.close()


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def listening(hints: Hints) -> threading.Event:
    """An event that the next hint sets."""
    wakeup = threading.Event()
    hints.subscribe(wakeup)
    until(lambda: hints.listens)
    wakeup.clear()
    return wakeup


@pytest.mark.slow
def test_a_hint_wakes_all_who_listen_and_no_other_site(server: Server, hints_of: Hinting) -> None:
    wakeups = [listening(hints_of(server.url)) for _ in range(3)]
    other = listening(hints_of(server.url, "other"))
    assert hints_of(server.url).announce() == 3
    assert all(wakeup.wait(2) for wakeup in wakeups)
    assert not other.wait(0.1)


@pytest.mark.slow
def test_a_subscription_wakes_once_it_begins(server: Server, hints_of: Hinting) -> None:
    wakeup = threading.Event()
    hints_of(server.url).subscribe(wakeup)
    assert wakeup.wait(5)


@pytest.mark.slow
def test_a_lost_connection_is_there_again_and_wakes(
    server: Server, hints_of: Hinting, caplog: pytest.LogCaptureFixture
) -> None:
    hints = hints_of(server.url)
    wakeup = listening(hints)
    server.stop()
    until(lambda: not hints.listens)
    assert hints_of(server.url).announce() is None
    server.start()
    assert wakeup.wait(5)
    until(lambda: hints.listens)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "followers ask at their interval" in lines[0]
    assert "no hint was sent" in lines[1]


@contextmanager
def following(machine: Machine, every: float, hints: Hints) -> Iterator[Follower]:
    """A follower in a thread of its own."""
    follower = Follower(machine.store, machine.origin, every=every, name="machine")
    stop, wakeup = threading.Event(), threading.Event()
    hints.subscribe(wakeup)
    thread = threading.Thread(target=follower.run, args=(stop, wakeup))
    thread.start()
    yield follower
    stop.set()
    wakeup.set()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.slow
def test_a_follower_looks_at_once_and_without_the_server_at_its_interval(
    tmp_path: Path, server: Server, hints_of: Hinting
) -> None:
    clock = FakeClock()
    objects = FakeObjects(clock)
    builder, machine = Machine(tmp_path / "builder", objects, clock), Machine(tmp_path / "machine", objects, clock)
    announcing, hints = hints_of(server.url), hints_of(server.url)

    def build(number: int) -> None:
        builder.publish(pages(number))
        builder.origin.send(builder.store)
        announcing.announce()

    def generation(follower: Follower) -> int | None:
        return follower.last.generation if follower.last else None

    with following(machine, 3600, hints) as follower:
        until(lambda: hints.listens and follower.last)
        build(1)
        until(lambda: generation(follower) == 1, 15)
        time.sleep(0.5)  # a hint that came during a look makes another look
        server.stop()
        build(2)  # nobody hears of it
        time.sleep(0.5)
        assert generation(follower) == 1
        server.start()  # the connection is there again, and the follower looks
        until(lambda: generation(follower) == 2, 15)
    server.stop()
    with following(machine, 0.2, hints) as follower:
        build(3)
        until(lambda: generation(follower) == 3, 15)


@pytest.mark.slow
def test_a_silent_connection_is_given_up(
    server: Server, proxy: SlowWay, hints_of: Hinting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotpath.process.redis_server.PING_SECONDS", 0.2)
    hints = hints_of(f"redis://127.0.0.1:{proxy.port}/0")
    wakeup = listening(hints)
    time.sleep(1)
    assert hints.listens  # pings are answered
    proxy.delay = 3.0
    until(lambda: not hints.listens)
    proxy.delay = 0.0
    assert wakeup.wait(10)


@pytest.mark.slow
def test_a_builder_waits_two_seconds_at_most_for_a_server_that_hangs(
    server: Server, proxy: SlowWay, hints_of: Hinting, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.delay = 30.0
    began = time.monotonic()
    assert hints_of(f"redis://127.0.0.1:{proxy.port}/0").announce() is None
    assert time.monotonic() - began < 5
    assert "Timeout" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ("db", "numbered 0 to 15"),
        ("password", "password is wrong"),
        ("none", "USER:PASSWORD@host"),
        ("rights", "needs PUBLISH and SUBSCRIBE on the channel site:generations"),
        ("closed", "Connection refused"),
    ],
)
@pytest.mark.parametrize("way", ["announce", "subscribe"])
def test_a_server_that_cannot_be_used_is_one_clear_line(
    way: str, change: str, advice: str, server: Server, hints_of: Hinting, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"127.0.0.1:{server.port}"
    url = {
        "db": f"redis://:right-secret@{address}/99",
        "password": f"redis://:wrong-secret@{address}/0",
        "none": f"redis://{address}/0",
        "rights": f"redis://few:right-secret@{address}/0",
        "closed": f"redis://:right-secret@127.0.0.1:{free_port()}/0",
    }[change]
    if change == "rights":
        server.command("ACL", "SETUSER", "few", "on", ">right-secret", "~*", "+@all", "-publish", "-subscribe")
    server.command("CONFIG", "SET", "requirepass", "right-secret")
    hints = hints_of(url)
    for _ in range(2):
        if way == "announce":
            assert hints.announce() is None
        else:
            hints.subscribe(threading.Event())
    until(lambda: caplog.records)
    (line,) = [record.getMessage() for record in caplog.records]
    assert advice in line
    assert "\n" not in line
    assert "secret" not in line + repr(hints)


@pytest.mark.parametrize("url", ["", "localhost", "http://127.0.0.1", "redis://:secret@127.0.0.1:x/0", "memcached://a"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        Hints(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("prefix", ["", "a b"])
def test_a_prefix_that_is_no_word_is_refused(prefix: str) -> None:
    with pytest.raises(DeclarationError, match="prefix="):
        Hints("redis://127.0.0.1", prefix)
