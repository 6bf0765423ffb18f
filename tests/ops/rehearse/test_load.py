"""``hotpath load``: only this machine without consent, the knee, what limits it, and thresholds."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from hotpath.cli.commands import main
from hotpath.errors import DeclarationError
from hotpath.ops.rehearse.load import LoadOptions, LoadStep, limit_of, options_of
from hotpath.ops.rehearse.outcomes import Counted
from tests.ops.rehearse.serving import Handler, served

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@contextmanager
def server(answer: bytes = OK, delay: float = 0.0) -> Iterator[str]:
    """The address of a server in a thread of its own."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(delay)
            writer.write(answer)

    stop, ready = threading.Event(), threading.Event()
    port = 0

    async def serve(handler: Handler) -> None:
        nonlocal port
        async with served(handler) as port:
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve(handle)))
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        thread.join()


def load(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["load", *arguments])
    return result.exit_code, result.output


def test_thresholds_that_hold_are_exit_0() -> None:
    with server() as url:
        code, output = load(
            f"{url}/a", f"{url}/b", "--rate", "100", "--step", "0.5s", "--p99", "2s", "--errors", "0.1%", "--json"
        )
    report = json.loads(output)
    assert (code, report["passed"], report["knee"]) == (0, True, 100)
    assert (report["steps"][0]["requests"], report["steps"][0]["errors"]) == (50, 0)


@pytest.mark.parametrize(
    ("answer", "delay", "threshold", "why"),
    [
        (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", 0.0, "--errors=0.1%", "errors: 100.00% (25 5xx"),
        (OK, 0.2, "--p99=50ms", "limited by "),
    ],
)
def test_a_threshold_that_is_passed_is_exit_1_and_says_what_limits(
    answer: bytes, delay: float, threshold: str, why: str
) -> None:
    with server(answer, delay) as url:
        code, output = load(url, "--step", "0.5s", threshold)
    assert code == 1
    assert why in output
    assert "knee: below the first step" in output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ["http://example.org/"],
            "this machine only, unless the site is yours and you say so: --url http://example.org",
        ),
        (["http://example.org/", "--i-own-this-site"], "this machine only"),
        (["x:hot", "--url", "http://example.org"], "x:hot"),
        (["ftp://127.0.0.1/"], "write a whole URL"),
        (["http://127.0.0.1:99999/"], "Port out of range"),
        (["http://127.0.0.1:1/", "http://127.0.0.1:2/"], "more than one server"),
        (["http://127.0.0.1:x/"], "write a whole URL"),
        (["x:hot"], "x:hot: write where it is served, --url http://127.0.0.1:8000"),
        (["x:site.hot"], "x:site.hot: write where it is served"),
        (["x:hot", "http://127.0.0.1:1/"], "x:hot: this is no URL; write URLs, or one TARGET"),
        (["foo"], "foo: this is neither a URL nor a TARGET; write http://127.0.0.1:8000/, or myapp:hot with --url"),
        (["127.0.0.1:8000"], "127.0.0.1:8000: this is neither a URL nor a TARGET"),
        (["/page", "--url", "http://127.0.0.1:1"], "/page: this is neither a URL nor a TARGET"),
        (["http://127.0.0.1:1/", "--errors", "lots"], "write a share"),
        (["http://127.0.0.1:1/", "--p99", "fast"], "--p99='fast' is no number of seconds: 3600, '50ms', '90s'"),
        (["http://127.0.0.1:1/", "--step", "1ms"], "--step='1ms' is less than 0.1 s; write seconds: 3600"),
        (["http://127.0.0.1:1/", "--timeout", "0"], "--timeout='0' is less than 0.001 s; write seconds"),
        (["http://127.0.0.1:1/", "--rate", "0"], "--rate 0"),
    ],
)
def test_wrong_use_is_exit_2_and_one_line(arguments: list[str], why: str) -> None:
    code, output = load(*arguments)
    assert code == 2
    assert why in output
    assert len(output.strip().splitlines()) == 1


def test_with_consent_another_machine_may_be_named() -> None:
    options = options_of(["https://example.org/a?b=c", "https://example.org/d"], may_leave=True)
    assert (options.host, options.port, options.is_tls) == ("example.org", 443, True)
    assert options.targets == ["/a?b=c", "/d"]
    with pytest.raises(DeclarationError, match="--i-own-this-site"):
        options_of(["https://example.org/a"], may_leave=False)


def test_a_server_that_is_not_there_is_one_line() -> None:
    code, output = load("http://127.0.0.1:1/", "--step", "0.2s")
    assert code == 1
    assert output.strip() == "hotpath: 127.0.0.1:1: no request got an answer; is the server running?"


def step(
    *, client: float = 0.1, cpu: float | None = 0.2, machine: float = 0.3, seconds: float = 0.01, passed: bool = True
) -> LoadStep:
    counted = Counted()
    for _ in range(100):
        counted.add(200, seconds)
    return LoadStep(100, counted, 100, client, 0.0, cpu, machine, passed)


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (step(client=0.95, passed=False), "this client"),
        (step(), "nothing: every threshold held"),
        (step(cpu=0.97, passed=False, seconds=2), "the server's processor: 1.0 cores"),
        (step(machine=1.0, passed=False, seconds=2), "other programs, which take the processor of this machine"),
        (step(cpu=None, passed=False, seconds=2), "time: the slowest hundredth took longer than 0.5 s"),
    ],
)
def test_the_limit_is_named(last: LoadStep, why: str) -> None:
    assert limit_of([last], LoadOptions(host="127.0.0.1", port=1, targets=["/"])).startswith(why)
