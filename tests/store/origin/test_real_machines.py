"""Three machines with a real engine: what one does all serve, and what is wrong is one line and touches nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hotpath.errors import DeclarationError, HotpathError, OriginConflict, OriginError
from hotpath.store.origin import Follower, Origin
from hotpath.store.store import Store
from tests.store.origin.cluster import PAGES, Machine, publish, until
from tests.store.origin.engine import BUCKET, OTHER_BUCKET, VERSIONED_BUCKET, Engine
from tests.store.origin.proxy import Fault, Proxy

obstore: Any = pytest.importorskip("obstore", reason="pip install 'asgi-hotpath[s3]'")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("credentials")]


@pytest.fixture
def url(engine: Engine, request: pytest.FixtureRequest) -> str:
    """A site of the test's own."""
    return engine.url(f"sites/{abs(hash(request.node.name))}")


@contextmanager
def machines(root: Path, url: str, count: int = 3) -> Iterator[list[Machine]]:
    """Started machines; each must have served whole generations only."""
    with ExitStack() as stack:
        started = []
        for number in range(1, count + 1):
            machine = Machine(root / f"machine{number}", url)
            machine.start()
            stack.callback(machine.stop)
            started.append(machine)
        yield started
    for machine in started:
        assert machine.problems == []


def send(origin: Origin, store: Store, mark: int) -> int:
    generation = publish(store, mark)
    origin.send(store)
    return generation


def all_serve(machines: Sequence[Machine], mark: int) -> None:
    for machine in machines:
        assert machine.serves(mark, 15), (machine.marks, machine.follower.last)


def test_what_one_builds_all_serve_with_equal_bytes(tmp_path: Path, url: str) -> None:
    with machines(tmp_path, url) as three:
        builder = three[0]
        for mark in (1, 2, 3):
            send(builder.origin, builder.store, mark)
            all_serve(three, mark)
        assert three[0].files() == three[1].files() == three[2].files()
        assert [machine.marks for machine in three] == [[1, 2, 3]] * 3


def test_any_machine_rolls_back_pins_and_unpins(tmp_path: Path, url: str) -> None:
    with machines(tmp_path, url) as three:
        for mark in (1, 2, 3, 4):
            send(three[0].origin, three[0].store, mark)
            all_serve(three, mark)
        assert three[1].origin.rollback(reason="wrong prices") == (4, 3)
        all_serve(three, 3)
        send(three[0].origin, three[0].store, 5)
        time.sleep(1)
        all_serve(three, 3)  # the rollback has pinned it
        assert three[2].origin.unpin() == 3
        all_serve(three, 5)
        three[2].origin.pin(2)
        all_serve(three, 2)
        assert three[1].origin.unpin() == 2
        all_serve(three, 5)
        assert {machine.store.bad()[4] for machine in three} == {"wrong prices"}


def _build(machine: Machine, mark: int, barrier: threading.Barrier, outcomes: dict[str, BaseException | None]) -> None:
    since = machine.origin.begin()
    barrier.wait(30)
    publish(machine.store, mark)
    outcome: BaseException | None = None
    try:
        machine.origin.send(machine.store, since)
    except HotpathError as error:
        outcome = error
    outcomes[machine.follower.name] = outcome


def test_two_builders_at_once_and_one_wins(tmp_path: Path, url: str) -> None:
    one, two = Machine(tmp_path / "one", url), Machine(tmp_path / "two", url)
    send(one.origin, one.store, 1)
    assert two.look().generation == 1
    rounds, lost = 6, 0
    for number in range(rounds):
        outcomes: dict[str, BaseException | None] = {}
        barrier = threading.Barrier(2)

        threads = [
            threading.Thread(target=_build, args=(machine, 10 * number + place, barrier, outcomes))
            for place, machine in enumerate((one, two), 2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        errors = [error for error in outcomes.values() if error is not None]
        assert len(outcomes) == 2
        assert len(errors) == 1
        assert isinstance(errors[0], OriginConflict)
        assert errors[0].exit_code == 75
        lost += 1
        winner = one if outcomes["one"] is None else two
        for machine in (one, two):
            look = machine.look()
            deadline = time.monotonic() + 10
            while look.error or look.is_busy or look.generation != look.origin_generation:
                assert time.monotonic() < deadline, look
                time.sleep(0.05)
                look = machine.look()
        assert one.files() == two.files() == winner.files()
    assert lost == rounds


def test_any_machine_prunes_and_a_late_one_still_gets_what_is_current(tmp_path: Path, url: str, engine: Engine) -> None:
    with machines(tmp_path, url, 2) as two:
        for mark in range(1, 7):
            if mark == 5:
                time.sleep(1.1)  # an engine's times are whole seconds
            send(two[0].origin, two[0].store, mark)
        all_serve(two, 6)
        nothing = two[1].origin.prune(keep=2)
        assert (nothing.generations, nothing.blobs) == ((), 0)  # all of it is young
        pruned = two[1].origin.prune(keep=2, grace_seconds=0)
        assert pruned.generations == (1, 2, 3, 4)
        assert pruned.blobs == 4 * PAGES
        late = Machine(tmp_path / "late", url)
        look = late.look()
        assert (look.generation, look.error) == (6, None)
        assert late.files() == two[0].files()
        assert two[0].origin.verify().is_sound
        send(two[0].origin, two[0].store, 7)
        all_serve(two, 7)


def test_any_machine_approves_what_one_has_put_in_quarantine(tmp_path: Path, url: str) -> None:
    with machines(tmp_path, url) as three:
        send(three[0].origin, three[0].store, 1)
        all_serve(three, 1)
        publish(three[0].store, 2, "half of the rows are missing")
        three[0].origin.send_quarantined(three[0].store, 2)
        assert three[1].origin.quarantined() == [2]
        time.sleep(0.5)
        all_serve(three, 1)
        three[1].origin.approve(2, "a holiday")
        all_serve(three, 2)
        send(three[0].origin, three[0].store, 3)
        all_serve(three, 3)


def test_machines_report_what_they_serve(tmp_path: Path, url: str) -> None:
    with machines(tmp_path, url) as three:
        send(three[0].origin, three[0].store, 1)
        all_serve(three, 1)
        names = ["machine1", "machine2", "machine3"]
        assert until(lambda: [report.name for report in three[0].origin.machines()] == names, 10)


def test_a_bucket_that_keeps_versions_is_as_good(tmp_path: Path, engine: Engine) -> None:
    assert "Enabled" in engine.shell(f"s3.bucket.versioning -name {VERSIONED_BUCKET} -enable")
    with machines(tmp_path, engine.url(bucket=VERSIONED_BUCKET), 2) as two:
        one, other = two
        for mark in (1, 2, 3):
            send(one.origin, one.store, mark)
            all_serve(two, mark)
        assert other.origin.rollback(pin=False) == (3, 2)
        all_serve(two, 2)
        time.sleep(1.1)  # an engine's times are whole seconds
        send(one.origin, one.store, 4)
        all_serve(two, 4)
        assert other.origin.prune(keep=1, grace_seconds=0).blobs >= PAGES
        assert one.origin.verify().is_sound
        late = Machine(tmp_path / "late", engine.url(bucket=VERSIONED_BUCKET))
        assert (late.look().generation, late.files()) == (4, one.files())
        lagging = one.origin.begin()
        send(other.origin, other.store, 5)
        publish(one.store, 6)
        with pytest.raises(OriginConflict):
            one.origin.send(one.store, lagging)


# Faults of single requests

KINDS = [Fault("close"), Fault("reset"), Fault("status", 500), Fault("status", 503), Fault("status", 409)]
KINDS += [Fault("status", 412)]


def hurried(url: str) -> Origin:
    """One request at a time, and no long pauses between attempts."""
    return Origin(url, threads=1, sleep=lambda _: time.sleep(0.001))


@pytest.mark.parametrize("fault", KINDS, ids=str)
def test_any_request_of_a_send_may_fail_in_any_way(
    tmp_path: Path, engine: Engine, start_proxy: Callable[[int], Proxy], fault: Fault
) -> None:
    way = start_proxy(engine.port)
    site = f"faults/{fault.kind}{fault.code}"
    origin, store = hurried(engine.url(site, endpoint=way.endpoint)), Store(tmp_path / "builder", keep=100)
    publish(store, 0)
    origin.send(store)
    way.reset()
    publish(store, 1)
    origin.send(store)
    methods = [request.method for request in way.requests]
    assert methods.count("PUT") >= 6  # the pages, the manifest, CURRENT
    for number, method in enumerate(methods):
        if fault.code in (409, 412) and method != "PUT":
            continue
        # Once in a request that is tried again, and in all its attempts: then the whole is begun again.
        for times in (1, 50):
            publish(store, 100 * number + times)
            way.fault(number, fault, times)
            with_fault = None
            try:
                origin.send(store)
            except OriginError as error:
                with_fault = error
            way.reset()
            if times == 1:
                assert with_fault is None, (number, method)
            else:
                assert with_fault is not None, (number, method)
                assert with_fault.exit_code == 75, (number, method)
                origin.send(store)
        follower = Follower(Store(tmp_path / f"reader{number}"), hurried(engine.url(site)), name="reader")
        look = follower.look()
        assert look.error is None
        assert look.generation == store.chosen_sequence()
        assert follower.store.verify_generation(look.generation) == []


@pytest.mark.parametrize("fault", [*KINDS[:4], Fault("hole")], ids=str)
def test_any_request_of_a_look_may_fail_in_any_way(
    tmp_path: Path, engine: Engine, start_proxy: Callable[[int], Proxy], fault: Fault
) -> None:
    way = start_proxy(engine.port)
    site = f"looks/{fault.kind}{fault.code}"
    builder, direct = Store(tmp_path / "builder"), hurried(engine.url(site))
    send(direct, builder, 1)
    machine = Follower(Store(tmp_path / "machine"), hurried(engine.url(site, endpoint=way.endpoint)), name="machine")
    assert machine.look().generation == 1
    way.reset()
    generation = send(direct, builder, 2)
    assert machine.look().generation == generation
    requests = [request for request in way.requests if "/machines/" not in request.path]
    assert len(requests) >= 6
    for number in range(len(requests)):
        generation = send(direct, builder, 10 + number)
        way.fault(number, fault, 1 if fault.kind == "hole" else 50)
        if fault.kind == "hole":
            threading.Timer(0.2, way.heal).start()
        look = machine.look()
        if fault.kind != "hole":
            assert look.error is not None
            assert look.generation == generation - 1
        way.reset()
        look = machine.look()
        assert (look.error, look.generation) == (None, generation)
        assert machine.store.verify_generation(generation) == []


# Bad input


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ("key", "the engine does not know this access key"),
        ("secret", "the secret key is not that of the access key"),
        ("bucket", "there is no such bucket; make it, or correct its name"),
        ("port", "the connection failed"),
        ("tls", "the connection failed"),
        ("other", "this is no pointer of hotpath"),
        ("clock", "the clocks of this machine and of the engine differ too much"),
    ],
)
def test_bad_input_is_one_line_and_touches_nothing(
    change: str,
    advice: str,
    tmp_path: Path,
    engine: Engine,
    url: str,
    start_proxy: Callable[[int], Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(tmp_path / "machine", url)
    send(machine.origin, machine.store, 1)
    before = machine.files()
    bad = url
    if change == "key":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody-secret")
    elif change == "secret":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    elif change == "bucket":
        bad = url.replace(BUCKET, "no-such-bucket")
    elif change == "port":
        bad = url.replace(f":{engine.port}", ":1")
    elif change == "tls":
        bad = url.replace("http://", "https://")
    elif change == "other":
        bad = engine.url("site", bucket=OTHER_BUCKET)
        store = obstore.store.S3Store(OTHER_BUCKET, endpoint=engine.endpoint, client_options={"allow_http": True})
        obstore.put(store, "site/CURRENT", b"somebody else's file\n")
    elif change == "clock":  # said by the proxy: a test has no other clock
        way = start_proxy(engine.port)
        way.fault(0, Fault("status", 403), 50)
        bad = url.replace(engine.endpoint, way.endpoint)
    origin = Origin(bad, sleep=lambda _: None)
    follower = Follower(machine.store, origin, name="machine")
    look = follower.look()
    assert look.error is not None
    publish(machine.store, 2)
    with pytest.raises(OriginError) as refused:
        origin.send(machine.store)
    for line in (look.error, str(refused.value)):
        assert advice in line
        assert "\n" not in line
        assert "secret" not in line.replace("the secret key", "").replace("AWS_SECRET_ACCESS_KEY", "")
    assert look.generation == 1
    machine.store.rollback(reason="back to what was there", pin=False)
    assert machine.files() == before


@pytest.mark.parametrize("slashes", ["/", "//", "///"])
def test_slashes_at_the_end_are_nothing(slashes: str, tmp_path: Path, url: str) -> None:
    one = Machine(tmp_path / "one", url)
    send(one.origin, one.store, 1)
    two = Machine(tmp_path / "two", url.replace("?", f"{slashes}?"))
    assert two.look().generation == 1


def test_an_endpoint_without_tls_has_to_be_allowed(engine: Engine) -> None:
    with pytest.raises(DeclarationError, match="allow_http=true"):
        Origin(engine.url().replace("&allow_http=true", ""))


def test_an_empty_bucket_has_nothing_to_serve_and_is_no_error(tmp_path: Path, url: str) -> None:
    look = Machine(tmp_path / "one", url).look()
    assert (look.error, look.generation, look.origin_generation) == (None, None, None)
