"""One child, and who looks after it: what they do for each thing that a process can do."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hotpath.front.address import Address
from hotpath.front.child import Child, ask
from hotpath.front.servers import ServerCommand
from hotpath.front.supervisor import Care, Supervisor
from hotpath.front.upstream import Upstream

# A server without a framework, so that a test takes milliseconds: it answers what the file beside it says.
SERVER = """
import os, signal, socket, subprocess, sys, time
path, answer = sys.argv[1], open('answer').read()
print('starting', os.getpid(), flush=True)
if answer == 'fail': sys.exit('no such luck')
if answer == 'deaf': time.sleep(100)
if answer == 'stubborn': signal.signal(signal.SIGTERM, signal.SIG_IGN)
if answer == 'worker': subprocess.Popen(['sleep', '100'])
listener = socket.socket(socket.AF_UNIX); listener.bind(path); listener.listen(100)
while True:
    connection, _ = listener.accept()
    target = connection.recv(65536).split(b' ')[1:2]
    answer = open('answer').read()
    if answer == 'hang': time.sleep(100)
    if answer == 'die': os._exit(3)
    status = b'503 No' if answer == 'unready' and target == [b'/readyz'] else b'200 OK'
    body = str(os.getpid()).encode()
    head = b'HTTP/1.1 %b\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n' % (status, len(body))
    connection.sendall(head + body)
    connection.close()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "server.py").write_text(SERVER)
    answer("ok")
    return tmp_path


def answer(text: str) -> None:
    Path("answer.new").write_text(text)
    Path("answer.new").rename("answer")


def command() -> ServerCommand:
    return ServerCommand.of(f"{sys.executable} -I -S server.py {{socket}}", "app")


def nowhere() -> Upstream:
    return Upstream(Address(path=str(Path("app-0.sock").absolute())))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


async def until(is_true: Callable[[], object]) -> None:
    while not is_true():  # noqa: ASYNC110  what it waits for happens in other processes
        await asyncio.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@asynccontextmanager
async def supervised(**care: Any) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(command(), nowhere(), Path.cwd(), Care(**care))
    task = asyncio.ensure_future(supervisor.run())
    try:
        yield supervisor
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()


def test_a_child_is_ready_once_it_answers_and_ends_when_asked(place: Path) -> None:
    async def test() -> None:
        child = Child(command(), place / "a.sock")
        assert await child.become_ready(None, "/healthz", 10)
        assert child.served_seconds is not None
        assert os.getsid(child.pid) == child.pid
        await child.end()
        assert child.how_it_ended == "was killed by SIGTERM"
        assert child.last_lines() == [f"starting {child.pid}"]
        assert not (place / "a.sock").exists()

    run(test)


@pytest.mark.parametrize(("kind", "how"), [("fail", "ended with status 1"), ("die", "ended with status 3")])
def test_a_child_that_ends_is_never_ready(place: Path, kind: str, how: str) -> None:
    async def test() -> None:
        answer(kind)
        child = Child(command(), place / "a.sock")
        began = time.monotonic()
        assert not await child.become_ready(None, "/healthz", 10)
        assert time.monotonic() - began < 5
        assert child.how_it_ended == how
        assert child.served_seconds is None

    run(test)


@pytest.mark.parametrize("kind", ["deaf", "hang", "unready"])
def test_a_child_that_does_not_answer_in_time_is_not_ready(place: Path, kind: str) -> None:
    async def test() -> None:
        answer(kind)
        child = Child(command(), place / "a.sock")
        began = time.monotonic()
        assert not await child.become_ready("/readyz", "/healthz", 0.5)
        assert 0.5 <= time.monotonic() - began < 2
        child.kill()
        await child.ended.wait()

    run(test)


def test_what_a_child_starts_ends_with_it(place: Path) -> None:
    async def test() -> None:
        answer("worker")
        child = Child(command(), place / "a.sock")
        assert await child.become_ready(None, "/healthz", 10)
        (worker,) = children(child.pid)
        os.kill(child.pid, signal.SIGKILL)
        await child.ended.wait()
        await until(lambda: is_gone(worker))

    run(test)


def test_a_child_that_does_not_obey_is_killed(place: Path) -> None:
    async def test() -> None:
        answer("stubborn")
        child = Child(command(), place / "a.sock")
        assert await child.become_ready(None, "/healthz", 10)
        await child.end(0.3)
        assert child.how_it_ended == "was killed by SIGKILL"

    run(test)


def test_a_command_that_is_not_there_is_said_by_its_name(place: Path) -> None:
    async def test() -> None:
        child = Child(ServerCommand.of("nosuchserver {socket}", "app"), place / "a.sock")
        assert not await child.become_ready(None, "/healthz", 10)
        assert child.last_lines() == ["nosuchserver: No such file or directory"]

    run(test)


def test_output_is_passed_on_by_lines_and_a_line_without_end_in_parts(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import sys; print('one'); print('x' * 20000); sys.stderr.write('no end')"

    async def test() -> None:
        child = Child(ServerCommand.of(f'{sys.executable} -c "{code}" {{socket}}', "app"), place / "a.sock")
        await child.ended.wait()
        assert child.last_lines()[-1] == "no end"

    run(test)
    printed = capfd.readouterr()
    assert printed.err == "app | no end\n"
    lines = printed.out.splitlines()
    assert lines[0] == "app | one"
    assert "".join(line.removeprefix("app | ") for line in lines[1:]) == "x" * 20000
    assert max(map(len, lines)) < 9000


def test_nobody_who_listens_and_no_answer_are_no_status(place: Path) -> None:
    async def test() -> None:
        assert await ask(place / "nobody.sock", "/", 1) is None
        server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), place / "x.sock")
        assert await ask(place / "x.sock", "/", 1) is None
        server.close()

    run(test)


def test_an_app_that_ends_is_started_again_at_a_new_address() -> None:
    async def test() -> None:
        async with supervised() as supervisor:
            await until(lambda: supervisor.is_up)
            first = supervisor.current
            assert first is not None
            assert supervisor.upstream.address == first.address
            os.kill(first.pid, signal.SIGKILL)
            await until(lambda: supervisor.is_up and supervisor.current is not first)
            assert supervisor.upstream.address != first.address
            assert supervisor.restarts == 1
            last = supervisor.current
        assert last is not None
        assert is_gone(last.pid)

    run(test)


def test_an_app_that_hangs_is_killed_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with supervised(health_timeout=0.6) as supervisor:
            await until(lambda: supervisor.is_up)
            first = supervisor.current
            answer("hang")
            await until(lambda: "gave no answer for 0.6 s" in caplog.text)
            answer("ok")
            await until(lambda: supervisor.is_up and supervisor.current is not first)

    run(test)


def test_an_app_that_answers_others_is_not_asked_and_not_killed() -> None:
    async def test() -> None:
        async with supervised(health_timeout=0.6) as supervisor:
            await until(lambda: supervisor.is_up)
            answer("die")  # of the first that asks
            for _ in range(30):
                supervisor.heard()
                await asyncio.sleep(0.05)
            assert supervisor.restarts == 0
            answer("ok")

    run(test)


def test_a_reload_is_a_new_process_beside_the_old_and_the_old_one_ends() -> None:
    async def test() -> None:
        async with supervised() as supervisor:
            await until(lambda: supervisor.is_up)
            first = supervisor.current
            assert first is not None
            assert await supervisor.reload()
            assert supervisor.current is not first
            assert supervisor.is_up
            await until(lambda: is_gone(first.pid))
            assert (supervisor.deploys, supervisor.failed_deploys, supervisor.restarts) == (1, 0, 0)

    run(test)


def test_apps_that_die_just_after_their_deploys_are_no_crash_loop() -> None:
    async def test() -> None:
        async with supervised() as supervisor:
            await until(lambda: supervisor.is_up)
            began = time.monotonic()
            for _ in range(5):
                assert await supervisor.reload()
                new = supervisor.current
                assert new is not None
                os.kill(new.pid, signal.SIGKILL)
                await until(lambda: supervisor.is_up and supervisor.current is not new)  # noqa: B023
            assert time.monotonic() - began < 4  # 0 + 1 + 2 + 4 + 8 s for a loop

    run(test)


def test_a_version_that_fails_leaves_the_old_one(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with supervised() as supervisor:
            await until(lambda: supervisor.is_up)
            first = supervisor.current
            answer("fail")
            assert not await supervisor.reload()
            answer("ok")
            assert supervisor.current is first
            assert supervisor.is_up
            assert (supervisor.deploys, supervisor.failed_deploys) == (0, 1)

    run(test)
    assert "(it ended with status 1): the old one goes on" in caplog.text
    assert "\n  no such luck" in caplog.text


def test_a_reload_ends_the_wait_of_an_app_that_does_not_start(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        answer("fail")
        async with supervised() as supervisor:
            await until(lambda: supervisor.restarts >= 2)  # from now on it waits a second and more
            answer("ok")
            began = time.monotonic()
            assert await supervisor.reload()
            assert time.monotonic() - began < 0.9

    run(test)
    assert caplog.text.count("the app does not start: it ended with status 1.") == 1


def test_a_reload_ends_the_start_of_an_app_that_hangs_in_it() -> None:
    async def test() -> None:
        answer("deaf")
        async with supervised(start_timeout=20) as supervisor:
            await until(lambda: supervisor.current is not None)
            first = supervisor.current
            answer("ok")
            assert await supervisor.reload()
            assert supervisor.current is not first

    run(test)


def test_an_old_app_whose_requests_do_not_end_is_ended_after_its_time(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with supervised(drain=0.3) as supervisor:
            await until(lambda: supervisor.is_up)
            first = supervisor.current
            assert first is not None
            supervisor.upstream.enter()
            assert await supervisor.reload()
            await asyncio.sleep(0.1)
            assert not is_gone(first.pid)
            await until(lambda: is_gone(first.pid))

    run(test)
    assert "the old app had requests for more than 0.3 s (--drain)" in caplog.text


def test_where_no_process_can_be_made_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    popen, fails = subprocess.Popen, [True, True]

    def refuse(*arguments: Any, **options: Any) -> Any:
        if fails:
            fails.pop()
            raise OSError(12, "Cannot allocate memory")
        return popen(*arguments, **options)

    async def test() -> None:
        async with supervised() as supervisor:
            await until(lambda: supervisor.is_up)
            fails.append(True)
            assert not await supervisor.reload()
            assert supervisor.is_up

    monkeypatch.setattr(subprocess, "Popen", refuse)
    run(test)
    assert (
        caplog.text.count("the app cannot be started now ([Errno 12] Cannot allocate memory); it is tried again") == 1
    )
    assert "no new process can be started now ([Errno 12] Cannot allocate memory): the old one goes on" in caplog.text


def test_where_memory_is_short_the_old_one_ends_first_and_requests_wait() -> None:
    async def test() -> None:
        upstream = nowhere()
        supervisor = Supervisor(command(), upstream, Path.cwd(), Care(), free=lambda: 0)
        task = asyncio.ensure_future(supervisor.run())
        await until(lambda: supervisor.is_up)
        first = supervisor.current
        assert first is not None
        done = supervisor.reload()
        await until(lambda: upstream.is_paused)
        assert await done
        assert not upstream.is_paused
        assert first.has_ended
        answer("fail")
        assert not await supervisor.reload()
        assert not upstream.is_paused
        answer("ok")
        await until(lambda: supervisor.is_up)  # nothing is left but to try again
        task.cancel()
        await asyncio.wait([task])

    run(test)
