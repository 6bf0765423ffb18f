"""Values that processes share by a real server, whatever becomes of the server and of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from hotpath.caching import Valkey, cached
from hotpath.caching.shared.link import BUDGET_SECONDS
from hotpath.errors import DeclarationError
from tests.caching.shared.conftest import Proxy, Server, Worker, free_port

# A processor that others use makes the server slow, and slow servers are left alone.
pytestmark = [pytest.mark.slow, pytest.mark.serial]

Workers = Callable[[str, int, float, int], list[Worker]]

# What a machine that does other work adds to a call.
SLACK = 0.15


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def test_a_thousand_callers_in_eight_processes_make_one_call(server: Server, start_workers: Workers) -> None:
    workers = start_workers(server.url, 8, 0.5, 125)
    for worker in workers:
        worker.go()
    results = [worker.result() for worker in workers]
    assert sum(result["calls"] for result in results) == 1
    assert [value for result in results for value, _ in result["got"]] == [{"x": 1}] * 1000


def test_a_call_that_takes_longer_than_its_lease_is_one_call(server: Server, start_workers: Workers) -> None:
    workers = start_workers(server.url, 3, 5, 2)
    for worker in workers:
        worker.go()
    assert sum(worker.result()["calls"] for worker in workers) == 1


def test_a_holder_that_is_killed_costs_one_lease(server: Server, start_workers: Workers) -> None:
    holder, *others = start_workers(server.url, 3, 0.3, 1)
    holder.go()
    assert holder.line() == "called"
    for worker in others:
        worker.go()
    time.sleep(0.2)
    holder.process.kill()
    results = [worker.result() for worker in others]
    assert sum(result["calls"] for result in results) == 1
    assert max(seconds for result in results for _, seconds in result["got"]) < 2 + 0.3 + 0.1 + 3 * SLACK


def counting(valkey: Valkey, **options: Any) -> tuple[Any, list[int]]:
    calls: list[int] = []

    def counting(x: int) -> list[int]:
        calls.append(x)
        if x < 0:
            raise ValueError("below zero")
        return [x, len(calls)]

    with_defaults: dict[str, Any] = {"ttl": 60, "name": "counting"} | options
    return cached(shared=valkey, **with_defaults)(counting), calls


def other(server: Server, valkey: Valkey, **options: Any) -> tuple[Any, list[int]]:
    """The same function in another process, as far as the server knows."""
    return counting(Valkey(server.url, prefix="test"), **options)


def test_one_process_has_what_another_made(server: Server, valkey: Valkey) -> None:
    here, _ = counting(valkey)
    there, calls = other(server, valkey)
    assert here(1) == there(1) == [1, 1]
    assert calls == []
    assert here.cache_info().misses == 1


def test_prefix_version_and_name_keep_values_apart(server: Server) -> None:
    made = [
        counting(Valkey(server.url, prefix=prefix, version=version), name=name)[0](5)
        for prefix in ("a", "b")
        for version in ("1", "2", None)
        for name in ("f", "g")
    ]
    assert made == [[5, 1]] * 12
    assert len(server.command("KEYS", "*:f:*")) == 6


def gone(server: Server) -> None:
    server.stop()


def stopped(server: Server) -> None:
    server.process.send_signal(signal.SIGSTOP)


def full(server: Server) -> None:
    server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.command("CONFIG", "SET", "maxmemory", "1")


def read_only(server: Server) -> None:
    server.command("REPLICAOF", "127.0.0.1", "1")


@pytest.mark.parametrize("fault", [gone, stopped, full, read_only])
def test_no_call_fails_or_waits_for_a_server_that_is(
    fault: Callable[[Server], None], server: Server, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    function, calls = counting(valkey)
    function(0)
    fault(server)
    slowest = 0.0
    for number in range(1, 200):
        began = time.monotonic()
        assert function(number)[0] == number
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < BUDGET_SECONDS + SLACK
    assert calls == list(range(200))
    assert not valkey.is_up
    told = [record.message for record in caplog.records if "shared cache" in record.message]
    assert len(told) == 1
    assert "each process goes on with its own cache" in told[0]
    if fault is gone:
        server.start()
    elif fault is stopped:
        server.process.send_signal(signal.SIGCONT)
    elif fault is full:
        server.command("CONFIG", "SET", "maxmemory", "0")
    else:
        server.command("REPLICAOF", "NO", "ONE")
    until(lambda: valkey.is_up)
    function(1000)
    there, calls = other(server, valkey)
    assert there(1000)[0] == 1000
    assert calls == []


def test_a_slow_server_is_left_alone(server: Server, proxy: Proxy) -> None:
    valkey = Valkey(f"redis://127.0.0.1:{proxy.port}", prefix="test")
    function, _ = counting(valkey)
    function(0)
    proxy.delay = 0.2
    seconds = []
    for number in range(1, 50):
        began = time.monotonic()
        function(number)
        seconds.append(time.monotonic() - began)
    assert max(seconds) < BUDGET_SECONDS + SLACK
    assert sorted(seconds)[len(seconds) // 2] < 0.01, "the others do not ask it"
    proxy.delay = 0
    until(lambda: valkey.is_up)
    valkey.close()


def test_a_connection_that_ends_in_a_call_costs_nothing(server: Server, proxy: Proxy) -> None:
    valkey = Valkey(f"redis://127.0.0.1:{proxy.port}", prefix="test")
    function, _ = counting(valkey)
    for number in range(100):
        if number % 10 == 5:
            proxy.cut()
        assert function(number)[0] == number
    valkey.close()


def test_what_one_forgets_all_forget(server: Server, valkey: Valkey) -> None:
    here, _ = counting(valkey)
    there, calls = other(server, valkey)
    here(1), there(1), here(2), there(2)
    time.sleep(0.3)  # both listen by now
    here(1), there(1), here(2), there(2)
    assert here.invalidate(1)
    until(lambda: len(there.cache) == 1)
    assert there(1) == [1, 1], "made anew, there"
    assert there(2) == [2, 2], "a copy of what was made here"
    assert calls == [1]


def test_a_process_that_could_not_hear_drops_its_copies(server: Server, proxy: Proxy, valkey: Valkey) -> None:
    here, _ = counting(valkey)
    there, _ = counting(Valkey(f"redis://127.0.0.1:{proxy.port}", prefix="test"))
    here(1), there(1)
    time.sleep(0.3)
    here(1), there(1)
    proxy.cut()
    until(lambda: len(there.cache) == 0)
    here.invalidate(1)
    assert here(1) == there(1) == [1, 2]


def test_what_was_being_made_when_it_was_invalidated_is_kept_nowhere(server: Server, valkey: Valkey) -> None:
    began, may_end = threading.Event(), threading.Event()

    @cached(ttl=60, shared=valkey, name="slow")
    def slow() -> str:
        began.set()
        may_end.wait(10)
        return "old"

    thread = threading.Thread(target=slow)
    thread.start()
    began.wait(10)
    there = cached(ttl=60, shared=Valkey(server.url, prefix="test"), name="slow")(slow.__wrapped__)  # type: ignore[attr-defined]
    there.invalidate()
    may_end.set()
    thread.join(10)
    assert server.command("KEYS", "test:slow:*") == []


def test_the_last_good_value_of_one_serves_all(server: Server, valkey: Valkey) -> None:
    fails = False

    def page(x: int) -> str:
        if fails:
            raise ConnectionError("no database")
        return "good"

    options: dict[str, Any] = {"ttl": 0.2, "stale_if_error": 30, "name": "page"}
    here = cached(**options, shared=valkey)(page)
    there = cached(**options, shared=Valkey(server.url, prefix="test"))(page)
    assert here(1) == "good"
    fails = True
    time.sleep(0.3)
    assert there(1) == "good"
    with pytest.raises(ConnectionError):
        there(2)


def test_a_stale_value_is_returned_while_another_process_makes_the_new_one(server: Server, valkey: Valkey) -> None:
    may_end = threading.Event()
    calls = []

    def page(x: int) -> int:
        calls.append(x)
        if len(calls) == 2:
            may_end.wait(10)
        return len(calls)

    options: dict[str, Any] = {"ttl": 0.2, "stale_while_revalidate": 30, "name": "page"}
    here = cached(**options, shared=valkey)(page)
    there = cached(**options, shared=Valkey(server.url, prefix="test"))(page)
    assert here(1) == 1
    time.sleep(0.3)
    assert here(1) == 1, "stale, and being made anew"
    until(lambda: here(1) == 1 and len(calls) == 2)
    assert there(1) == 1
    assert calls == [1, 1]
    may_end.set()
    until(lambda: there(1) == 2)
    assert calls == [1, 1]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_coroutines_share_too_and_a_cancelled_one_frees_its_lease(server: Server, valkey: Valkey, backend: str) -> None:
    calls = []

    @cached(ttl=60, shared=valkey, name="page")
    async def page(x: int) -> list[int]:
        calls.append(x)
        await anyio.sleep(0.2 if len(calls) > 1 else 60)
        return [x]

    @cached(ttl=60, shared=Valkey(server.url, prefix="test"), name="page")
    async def elsewhere(x: int) -> list[int]:
        raise AssertionError

    async def main() -> None:
        with anyio.move_on_after(0.2):
            await page(1)
        assert calls == [1]
        with anyio.fail_after(1.5):  # sooner than its lease would end
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(page, 1)
        assert calls == [1, 1]

    anyio.run(main, backend=backend)


def test_a_failure_frees_the_lease(server: Server, valkey: Valkey) -> None:
    here, _ = counting(valkey)
    there, _ = other(server, valkey)
    began = time.monotonic()
    for function in (here, there):
        with pytest.raises(ValueError, match="below zero"):
            function(-1)
    assert time.monotonic() - began < 1


def test_a_child_of_fork_shares(server: Server, valkey: Valkey) -> None:
    function, _ = counting(valkey)
    function(1)
    child = os.fork()
    if child == 0:
        try:
            there, calls = counting(valkey)
            os._exit(0 if there(1) == [1, 1] and calls == [] and function(2) == [2, 2] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    there, calls = other(server, valkey)
    assert there(2) == [2, 2]
    assert calls == []


def test_what_cannot_be_shared_is_said_once_and_returned(
    server: Server, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    @cached(ttl=60, shared=valkey)
    def pair(x: int) -> tuple[int, int]:
        return x, x

    assert pair(1) == (1, 1)
    assert pair(2) == (2, 2)
    told = [record.message for record in caplog.records if "not shared" in record.message]
    assert len(told) == 1
    assert "test_valkey" in told[0]


def test_somebody_elses_value_is_no_value(server: Server, valkey: Valkey) -> None:
    function, _ = counting(valkey)
    function(1)
    (key,) = server.command("KEYS", "test:counting:*")
    for wrong in ("x", "hp1", "hp1j" + "0" * 24 + "{"):
        server.command("SET", key, wrong, "PX", "60000")
        function.cache.clear()
        assert function(1)[0] == 1
    server.command("DEL", key)
    server.command("LPUSH", key, "1")
    function.cache.clear()
    assert function(1)[0] == 1


@pytest.mark.parametrize("command", [("LPUSH", "1"), ("SADD", "1"), ("HSET", "a", "1"), ("ZADD", "1", "a")])
@pytest.mark.parametrize("place", ["", ":lease"])
def test_what_is_no_text_at_one_key_leaves_all_others_alone(
    server: Server, valkey: Valkey, caplog: pytest.LogCaptureFixture, command: tuple[str, ...], place: str
) -> None:
    function, calls = counting(valkey)
    function(1)
    (key,) = server.command("KEYS", "test:counting:*")
    for _ in range(5):
        server.command("DEL", key)
        server.command(command[0], key.decode() + place, *command[1:])
        function.cache.clear()
        assert function(1)[0] == 1
    assert valkey.is_up
    assert caplog.records == []
    assert len(calls) == 6
    there, elsewhere = other(server, valkey)
    assert there(1) == [1, 6]
    assert elsewhere == [], "the value took the place of what was there"


def test_a_lease_that_never_ends_is_nobodys(server: Server, valkey: Valkey) -> None:
    function, _ = counting(valkey)
    function(1)
    (key,) = server.command("KEYS", "test:counting:*")
    server.command("DEL", key)
    server.command("SET", f"{key.decode()}:lease", "x")
    function.cache.clear()
    began = time.monotonic()
    assert function(1) == [1, 2]
    assert time.monotonic() - began < BUDGET_SECONDS + SLACK


def test_a_value_that_is_too_long_for_the_way_is_said_once_and_returned(
    server: Server, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    @cached(ttl=60, shared=valkey, name="long")
    def long(size: int) -> bytes:
        return b"x" * size

    assert len(long(1 << 19)) == 1 << 19
    (key,) = server.command("KEYS", "test:long:*")
    for size in (1 << 20, 10 << 20, 20 << 20):
        assert len(long(size)) == size
    assert valkey.is_up
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "1,048,604 bytes are more than 1,048,576" in told[0]
    assert server.command("KEYS", "test:long:*") == [key]


def test_somebody_elses_long_value_is_not_fetched(server: Server, valkey: Valkey) -> None:
    function, _ = counting(valkey)
    function(1)
    (key,) = server.command("KEYS", "test:counting:*")
    server.command("SETRANGE", key, str(50 << 20), "x")
    function.cache.clear()
    began = time.monotonic()
    assert function(1)[0] == 1
    assert time.monotonic() - began < 2 * BUDGET_SECONDS + SLACK
    there, _ = other(server, valkey)
    assert there(1) == function(1), "the value took its place"


def test_settings_that_let_it_grow_are_named(server: Server, valkey: Valkey) -> None:
    assert [("maxmemory " in line, "allkeys-lru" in line) for line in valkey.problems()] == [
        (True, False),
        (False, True),
    ]
    server.command("CONFIG", "SET", "maxmemory", "64mb")
    server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert valkey.problems() == []


def test_a_server_that_is_not_there_is_a_problem() -> None:
    port = free_port()
    gone = Valkey(f"redis://127.0.0.1:{port}/0")
    try:
        (problem,) = gone.problems()
    finally:
        gone.close()
    assert problem.startswith(f"redis://127.0.0.1:{port}/0: it does not answer (ConnectionError: ")


# Bad input


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ("db", "numbered 0 to 15"),
        ("password", "password is wrong"),
        ("none", "USER:PASSWORD@host"),
        ("unwanted", "this server has no password"),
        ("rights", "PUBLISH"),
        ("closed", "Connection refused"),
        ("tls", "cannot be used"),
    ],
)
def test_a_server_that_cannot_be_used_is_one_clear_line(
    change: str, advice: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"127.0.0.1:{server.port}"
    url = f"redis://:right-secret@{address}/0"
    if change == "rights":
        server.command("ACL", "SETUSER", "few", "on", ">right-secret", "~*", "+@all", "-publish", "allchannels")
        url = f"redis://few:right-secret@{address}/0"
    elif change != "unwanted":
        server.command("CONFIG", "SET", "requirepass", "right-secret")
    if change == "db":
        url = f"redis://:right-secret@{address}/99"
    elif change == "password":
        url = f"redis://:wrong-secret@{address}/0"
    elif change == "none":
        url = f"redis://{address}/0"
    elif change == "closed":
        url = f"redis://:right-secret@127.0.0.1:{free_port()}/0"
    elif change == "tls":
        url = f"rediss://:right-secret@{address}/0"
    valkey = Valkey(url, prefix="test")
    function, _ = counting(valkey)
    assert function(1) == [1, 1]
    assert function(2) == [2, 2]
    until(lambda: caplog.records)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert advice in told[0]
    assert "\n" not in told[0]
    assert "secret" not in told[0]
    assert "secret" not in repr(valkey)
    valkey.close()


@pytest.mark.parametrize("url", ["", "localhost", "http://127.0.0.1", "redis://:secret@127.0.0.1:x/0", "memcached://a"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        Valkey(url)
    assert "secret" not in str(refused.value)


def test_declarations_that_cannot_work_are_refused(server: Server, valkey: Valkey) -> None:
    with pytest.raises(DeclarationError, match="ttl="):
        cached(shared=valkey)
    with pytest.raises(DeclarationError, match="write shared=Valkey"):
        cached(ttl=1, shared="redis://127.0.0.1")  # type: ignore[call-overload]
    with pytest.raises(DeclarationError, match="prefix="):
        Valkey(server.url, prefix="")
    with pytest.raises(DeclarationError, match="a method belong to its instance"):

        class Shop:
            @cached(ttl=1, shared=valkey)
            def price(self) -> int:
                return 1

    free = 1
    with pytest.raises(DeclarationError, match="name="):

        @cached(ttl=1, shared=valkey)
        def closure() -> int:
            return free
