"""Following: the accepted generation whole or not at all, and never back but by a rollback."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from hotpath.errors import HotpathError, OriginError
from hotpath.store.origin import Follower, Look
from hotpath.testing import FakeClock
from tests.store.origin.fake import FakeObjects, Killed
from tests.store.origin.machines import Machine, pages


def send(builder: Machine, number: int) -> None:
    builder.publish(pages(number))
    builder.origin.send(builder.store)


def blob_of(builder: Machine, name: str) -> str:
    served = builder.served()
    assert served is not None
    digest = builder.store.read_manifest(served).items[f"/{name}"].identity.sha256.hex()
    return f"blobs/{digest[:2]}/{digest}"


def test_an_empty_origin_is_no_error(machine: Machine) -> None:
    look = machine.follower.look()
    assert (look.error, look.generation, look.origin_generation) == (None, None, None)


def test_a_machine_serves_what_was_sent_with_its_number_and_its_time(builder: Machine, machine: Machine) -> None:
    send(builder, 1)
    machine.clock.advance(500)
    look = machine.follower.look()
    assert (look.changed, look.generation, look.blobs, look.linked, look.error) == (True, 1, 4, 0, None)
    assert machine.pages() == pages(1)
    assert machine.store.manifest_path(1).read_bytes() == builder.store.manifest_path(1).read_bytes()


def test_only_what_is_new_crosses_the_network(builder: Machine, machine: Machine) -> None:
    send(builder, 1)
    machine.follower.look()
    send(builder, 2)
    look = machine.follower.look()
    assert (look.generation, look.blobs, look.linked) == (2, 2, 2)
    kept = [machine.store.files_path(n) / "p3.json" for n in (1, 2)]
    assert kept[0].samefile(kept[1])


def test_with_nothing_new_a_look_is_one_request(builder: Machine, machine: Machine, objects: FakeObjects) -> None:
    send(builder, 1)
    machine.follower.look()
    objects.requests.clear()
    look = machine.follower.look()
    assert (look.changed, look.error, look.generation) == (False, None, 1)
    assert objects.requests == [("get_if_changed", "CURRENT")]


def test_a_damaged_local_file_is_fetched_again(builder: Machine, machine: Machine) -> None:
    send(builder, 1)
    machine.follower.look()
    path = machine.store.files_path(1) / "p3.json"
    path.chmod(0o644)
    path.write_bytes(b"{}")
    send(builder, 2)
    assert machine.follower.look().blobs == 3
    assert machine.pages() == pages(2)


@pytest.mark.parametrize("what", ["blob", "blob is gone", "manifest", "manifest is gone", "CURRENT"])
def test_a_broken_object_is_an_error_and_what_is_served_stays(
    builder: Machine, machine: Machine, objects: FakeObjects, what: str
) -> None:
    send(builder, 1)
    machine.follower.look()
    send(builder, 2)
    key = {"blob": blob_of(builder, "p2"), "manifest": "generations/00000002.json"}.get(
        what.partition(" ")[0], "CURRENT"
    )
    whole = objects.objects[key]
    objects.edit(key, lambda data: data[:-4] + b"!!!\n")
    if what.endswith("gone"):
        del objects.objects[key]
    machine.clock.advance(10)
    look = machine.follower.look()
    assert look.error is not None
    assert key in look.error
    assert (look.generation, look.changed, look.lag_seconds) == (1, False, 10)
    assert machine.pages() == pages(1)
    objects.objects[key] = whole
    assert machine.follower.look().generation == 2
    assert machine.pages() == pages(2)
    assert sorted(path.name for path in machine.store.root.glob(".*")) == []


@pytest.mark.parametrize("fault", ["403", "killed after"])
def test_what_came_before_an_interruption_is_not_fetched_again(
    builder: Machine, machine: Machine, objects: FakeObjects, fault: str
) -> None:
    builder.publish(pages(1, count=20))
    builder.origin.send(builder.store)
    fetched: list[str] = []

    def interrupt(operation: str, key: str) -> None:
        if key.startswith("blobs/"):
            if len(fetched) == 12:
                raise (
                    Killed
                    if fault.startswith("killed")
                    else OriginError("not allowed", url=objects.url, operation=operation, key=key, status=403)
                )
            fetched.append(key)

    objects.on_request = interrupt
    with contextlib.suppress(Killed):
        assert machine.follower.look().error is not None
    objects.on_request = lambda operation, key: None
    (torn,) = (machine.store.root / ".pulled").glob(fetched[0].rpartition("/")[2])
    torn.chmod(0o644)
    torn.write_bytes(b"{")
    machine.restart()
    look = machine.follower.look()
    assert (look.error, look.blobs, look.linked) == (None, 9, 11)
    assert machine.pages() == pages(1, count=20)
    assert not (machine.store.root / ".pulled").exists()


def test_an_origin_that_is_gone_stops_the_news_and_no_page(
    builder: Machine, machine: Machine, objects: FakeObjects
) -> None:
    send(builder, 1)
    machine.follower.look()
    objects.is_down = True
    machine.restart()
    look = machine.follower.look()
    assert look.error is not None
    assert (look.generation, look.origin_generation) == (1, None)
    assert machine.pages() == pages(1)
    objects.is_down = False
    assert machine.follower.look().error is None


def test_an_origin_that_went_back_is_not_followed(builder: Machine, machine: Machine, objects: FakeObjects) -> None:
    send(builder, 1)
    older = dict(objects.objects)
    send(builder, 2)
    machine.follower.look()
    objects.objects = older
    look = machine.follower.look()
    assert look.error is not None
    assert "went back from generation 2 to 1" in look.error
    assert look.generation == 2


def test_what_this_machine_has_built_and_not_sent_stays_and_is_no_error(builder: Machine) -> None:
    send(builder, 1)
    builder.publish(pages(2))
    look = builder.follower.look()
    assert (look.error, look.generation, look.origin_generation, look.is_ahead) == (None, 2, 1, True)
    assert builder.follower.look().is_ahead, "also where CURRENT has not changed"
    builder.origin.send(builder.store)
    assert not builder.follower.look().is_ahead


def test_another_writer_of_the_store_is_no_error(builder: Machine, machine: Machine) -> None:
    send(builder, 1)
    with machine.store.locked():
        look = machine.follower.look()
    assert (look.is_busy, look.error, look.changed) == (True, None, False)
    assert machine.follower.look().generation == 1


def test_a_generation_that_lost_and_is_still_read_is_replaced_when_readers_have_moved(
    builder: Machine, machine: Machine
) -> None:
    send(builder, 1)
    machine.follower.look()
    machine.publish(pages(3))
    reader = machine.store.choose()
    assert reader.sequence == 2
    send(builder, 2)
    look = machine.follower.look()
    assert look.error is not None
    assert "still read" in look.error
    assert machine.pages() == pages(1), "readers choose the one before until then"
    reader_moved = machine.store.choose()
    os.close(reader.descriptor)
    os.close(reader_moved.descriptor)
    assert machine.follower.look().error is None
    assert machine.pages() == pages(2)
    assert machine.store.bad() == {}


def test_the_only_generation_is_replaced_though_it_is_read(builder: Machine, machine: Machine) -> None:
    machine.publish(pages(3))
    reader = machine.store.choose()
    send(builder, 1)
    assert machine.follower.look().error is None
    os.close(reader.descriptor)
    assert machine.pages() == pages(1)


def test_a_mistake_of_ours_is_an_error_in_the_record_too(
    builder: Machine, machine: Machine, objects: FakeObjects
) -> None:
    def fail(operation: str, key: str) -> None:
        raise AttributeError("no such thing")

    objects.on_request = fail
    assert machine.follower.look().error == "AttributeError: no such thing"


def test_a_manifest_that_leads_outside_is_refused(builder: Machine, machine: Machine, objects: FakeObjects) -> None:
    """Who can write to the bucket can change pages, and no other file of a machine."""
    send(builder, 1)
    data = objects.objects["generations/00000001.json"][0]
    lines = data.replace(b'"file":"p0.json"', b'"file":"a/../../../evil.json"').rpartition(b'],"sha256":"')[0]
    evil = lines + b'],"sha256":"' + hashlib.sha256(lines).hexdigest().encode() + b'"}\n'
    objects.put("generations/00000001.json", evil)
    current = orjson.loads(objects.objects["CURRENT"][0])
    digest = hashlib.sha256(evil).hexdigest()
    current["current"]["sha256"] = current["accepted"]["1"] = digest
    objects.put("CURRENT", orjson.dumps(current))
    look = machine.follower.look()
    assert look.error is not None
    assert "outside" in look.error
    assert not [*machine.store.root.parent.rglob("evil*")]


def test_a_machine_that_was_killed_before_its_note_sees_that_the_origin_went_back(
    builder: Machine, machine: Machine, objects: FakeObjects
) -> None:
    send(builder, 1)
    older = dict(objects.objects)
    send(builder, 2)
    machine.follower.look()
    (machine.store.root / "history.jsonl").unlink()
    machine.restart()
    objects.objects = older
    look = machine.follower.look()
    assert "went back from generation 2 to 1" in str(look.error)
    assert not look.is_ahead
    assert machine.pages() == pages(2)


def test_an_origin_of_other_pages_takes_no_machine_over(
    tmp_path: Path, builder: Machine, machine: Machine, objects: FakeObjects, clock: FakeClock
) -> None:
    send(builder, 1)
    machine.follower.look()
    others = FakeObjects(clock)
    others.url = "s3://bucket/other"
    stranger = Machine(tmp_path / "stranger", others, clock)
    for number in range(5, 8):
        send(stranger, number)
    moved = Machine(machine.store.root, others, clock)
    for _ in range(2):
        look = moved.follower.look()
        assert "none of the generations of this machine, which are from s3://bucket/site" in str(look.error)
        assert (look.generation, moved.pages()) == (1, pages(1))
    (machine.store.generation_path(1) / "from-origin").unlink()
    assert moved.follower.look().generation == 3, "as the error says, where it is meant"


def test_an_origin_that_has_moved_is_followed(
    builder: Machine, machine: Machine, objects: FakeObjects, clock: FakeClock
) -> None:
    send(builder, 1)
    machine.follower.look()
    copied = FakeObjects(clock)
    copied.url, copied.objects = "s3://new/site", objects.objects
    send(builder, 2)
    look = Machine(machine.store.root, copied, clock).follower.look()
    assert (look.error, look.generation) == (None, 2)


def test_blobs_of_pulls_that_failed_do_not_fill_the_disk(
    builder: Machine, machine: Machine, objects: FakeObjects
) -> None:
    send(builder, 1)
    machine.follower.look()
    kept = machine.store.root / ".pulled"
    for number in range(2, 7):
        builder.publish({"new": b"%d" % number, "gone": b"gone %d" % number})
        builder.origin.send(builder.store)
        del objects.objects[blob_of(builder, "gone")]
        assert "is missing" in str(machine.follower.look().error)
        assert len([*kept.iterdir()]) == 1
    send(builder, 8)
    assert machine.follower.look().error is None
    assert not kept.exists()
    assert machine.pages() == pages(8)


def test_a_blob_of_another_length_is_not_written(builder: Machine, machine: Machine, objects: FakeObjects) -> None:
    send(builder, 1)
    builder.publish(pages(2))
    builder.origin.send(builder.store)
    forge(objects, lambda _, item: item.__setitem__("bytes", 1))
    assert "the manifest says 1 bytes of 22" in str(machine.follower.look().error)
    written = [path.read_bytes() for path in (machine.store.root / ".pulled").iterdir()]
    assert b'{"page": 0, "made": 0}' not in written


def test_a_clock_that_is_set_back_silences_no_machine(builder: Machine, machine: Machine, objects: FakeObjects) -> None:
    send(builder, 1)
    machine.follower.look()
    machine.clock.advance(-400 * 86400)
    now = machine.clock()
    machine.follower.look()
    (report,) = machine.origin.machines()
    assert report.time == int(now)
    assert report.lag_seconds == 0


def test_every_machine_reports_at_most_once_a_minute(builder: Machine, machine: Machine, objects: FakeObjects) -> None:
    send(builder, 1)
    for _ in range(130):
        machine.follower.look()
        machine.clock.advance(10)
    reports = [request for request in objects.requests if request == ("put", "machines/machine.json")]
    assert len(reports) == 3, "at once, then every ten minutes with nothing new"
    (report,) = machine.origin.machines()
    assert (report.name, report.generation, report.origin_generation, report.lag_seconds) == ("machine", 1, 1, 0.0)


def test_news_are_reported_within_a_minute(builder: Machine, machine: Machine, objects: FakeObjects) -> None:
    send(builder, 1)
    machine.follower.look()
    send(builder, 2)
    key = blob_of(builder, "p2")
    objects.edit(key, lambda data: b"")
    for _ in range(7):
        machine.clock.advance(10)
        machine.follower.look()
    (report,) = machine.origin.machines()
    assert report.error is not None
    assert (report.generation, report.origin_generation, report.lag_seconds) == (1, 2, 60.0)


def test_a_machine_that_may_not_write_follows_all_the_same(
    builder: Machine, machine: Machine, objects: FakeObjects
) -> None:
    send(builder, 1)

    def refuse(operation: str, key: str) -> None:
        if operation.startswith("put"):
            raise OriginError("not allowed", url=objects.url, operation=operation, key=key, status=403)

    objects.on_request = refuse
    assert machine.follower.look().error is None
    assert machine.pages() == pages(1)


def test_the_loop_looks_again_when_it_is_woken_and_ends_when_it_is_stopped(builder: Machine, machine: Machine) -> None:
    send(builder, 1)
    stop, wakeup, looked = threading.Event(), threading.Event(), threading.Semaphore(0)

    class Counted(Follower):
        def look(self) -> Look:
            result = super().look()
            looked.release()
            return result

    follower = Counted(machine.store, machine.origin, every=3600, random=lambda: 0.0)
    thread = threading.Thread(target=follower.run, args=(stop, wakeup))
    thread.start()
    assert looked.acquire(timeout=10)
    send(builder, 2)
    wakeup.set()
    assert looked.acquire(timeout=10)
    assert machine.pages() == pages(2)
    stop.set()
    wakeup.set()
    thread.join(10)
    assert not thread.is_alive()


def test_machines_do_not_ask_together(machine: Machine) -> None:
    values = iter((0.0, 0.5, 1.0))
    follower = Follower(machine.store, machine.origin, every=10, random=lambda: next(values))
    assert [follower.pause_seconds() for _ in range(3)] == pytest.approx([9, 10, 11])


def test_an_origin_that_was_emptied_is_an_error(builder: Machine, machine: Machine, objects: FakeObjects) -> None:
    send(builder, 1)
    machine.follower.look()
    objects.objects.clear()
    look = machine.follower.look()
    assert look.error is not None
    assert "CURRENT: is gone" in look.error
    assert (look.generation, objects.objects) == (1, {})


def test_nothing_is_written_to_a_bucket_of_something_else(machine: Machine, objects: FakeObjects) -> None:
    machine.publish(pages(1))
    machine.follower.look()
    objects.put("CURRENT", b"mine")
    assert machine.follower.look().error is not None
    assert [*objects.objects] == ["CURRENT"]


def forge(objects: FakeObjects, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Send generation 2 again as ``change`` of its head and its first item leaves it, with digests that hold."""
    data = objects.objects["generations/00000002.json"][0]
    lines = data[: data.rindex(b'],"sha256"')].splitlines()
    head, item = orjson.loads(lines[0] + b"]}"), orjson.loads(lines[1].rstrip(b","))
    change(head, item)
    head.pop("items")
    lines[:2] = [orjson.dumps(head)[:-1] + b',"items":[', orjson.dumps(item) + b","]
    body = b"\n".join(lines) + b"\n"
    body += b'],"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'
    digest = hashlib.sha256(body).hexdigest()
    facts = orjson.loads(objects.objects["CURRENT"][0])
    facts["change"] += 1
    facts["current"]["sha256"] = facts["accepted"]["2"] = digest
    objects.edit("generations/00000002.json", lambda _: body)
    objects.edit("CURRENT", lambda _: orjson.dumps(facts))


HOSTILE: list[tuple[str, str, object]] = [
    ("item", "file", "../../x"),
    ("item", "file", "/etc/x"),
    ("item", "file", 5),
    ("item", "file", "a" * 5000),
    ("item", "bytes", 10**18),
    ("item", "bytes", 999),
    ("item", "bytes", 0),
    ("item", "bytes", -5),
    ("item", "bytes", "9"),
    ("item", "sha256", "ab"),
    ("item", "key", 5),
    ("item", "key", "p0"),
    ("item", "key", "/한"),
    ("item", "key", '/a"b'),
    ("item", "key", "/a\r\nX: y"),
    ("item", "codings", [1]),
    ("item", "route", 99),
    ("item", "last_modified", "x"),
    ("item", "last_modified", 10**17),
    ("item", "last_modified", -1),
    ("item", "stale_since", "x"),
    ("item", "metrics", "x"),
    ("head", "created", "x"),
    ("head", "created", 10**18),
    ("route", "media_type", "text/html\r\nX: y"),
    ("route", "media_type", 5),
    ("route", "cache_control", "public\nX: y"),
    ("route", "cdn_cache_control", "public\nX: y"),
    ("route", "headers", [["X\r\nA", "b"]]),
    ("route", "headers", [["X-A", "b\r\nc: d"]]),
    ("route", "lifetime_seconds", "x"),
]


@pytest.mark.parametrize(("where", "name", "value"), HOSTILE)
def test_a_manifest_that_servers_could_stumble_over_stays_outside(
    builder: Machine, machine: Machine, objects: FakeObjects, where: str, name: str, value: object
) -> None:
    send(builder, 1)
    machine.follower.look()
    send(builder, 2)
    forge(
        objects,
        lambda head, item: {"head": head, "item": item, "route": head["routes"][0]}[where].__setitem__(name, value),
    )
    look = machine.follower.look()
    assert look.error is not None
    assert "Error:" not in look.error, "an error that somebody has thought of"
    assert (look.generation, machine.pages()) == (1, pages(1))
    with contextlib.suppress(HotpathError):  # whatever they say of it, they say it in a line
        builder.origin.verify(builder.store)
    with contextlib.suppress(HotpathError):
        builder.origin.prune(2)


def test_a_report_that_no_machine_wrote_is_passed_over(
    builder: Machine, machine: Machine, objects: FakeObjects
) -> None:
    send(builder, 1)
    machine.follower.look()
    report = orjson.loads(objects.objects["machines/machine.json"][0])
    for number, wrong in enumerate(
        [{"name": 5}, {"time": "x"}, {"time": 1e300}, {"lag_seconds": None}, {"generation": []}, {"error": 5}]
    ):
        objects.objects[f"machines/wrong{number}.json"] = orjson.dumps(report | wrong), 0.0
    forged = report | {"name": "\x1b[2Jweb\nweb9" + "n" * 500, "error": "\x1b]0;x\x07" + "a" * 5000}
    objects.objects["machines/forged.json"] = orjson.dumps(forged), 0.0
    reports = machine.origin.machines()
    assert [each.name[:13] for each in reports] == ["?[2Jweb?web9n", "machine"]
    assert len(reports[0].name) == 100
    assert len(reports[0].error or "") == 1000
    assert "\x1b" not in f"{reports[0].error}"
