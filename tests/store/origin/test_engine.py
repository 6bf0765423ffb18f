"""The real S3 server of the tests does what origins need of one, and the proxy's faults are what they say."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from tests.store.origin.engine import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Engine
from tests.store.origin.proxy import Fault, Proxy

obstore = pytest.importorskip("obstore", reason="pip install 'asgi-hotpath[s3]'")
pytestmark = pytest.mark.slow


def bucket(endpoint: str, retries: int = 0) -> Any:
    from obstore.store import S3Store

    return S3Store(
        BUCKET,
        endpoint=endpoint,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        region=REGION,
        client_options={"allow_http": True, "timeout": timedelta(seconds=2)},
        retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=5)},
    )


def text(store: Any, path: str) -> str:
    return bytes(obstore.get(store, path).bytes()).decode()


def text_after_a_start(store: Any, path: str) -> str:
    """The engine says that it is ready, and answers 500 until its volume has been found: a client tries again."""
    deadline = time.monotonic() + 15
    while True:
        try:
            return text(store, path)
        except obstore.exceptions.GenericError:  # what is not there is another error, and final
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_conditional_writes_and_reads(engine: Engine) -> None:
    store = bucket(engine.endpoint)
    first = obstore.put(store, "conditional/CURRENT", b"1", mode="create")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(store, "conditional/CURRENT", b"2", mode="create")
    second = obstore.put(store, "conditional/CURRENT", b"2", mode={"e_tag": first["e_tag"]})
    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.put(store, "conditional/CURRENT", b"3", mode={"e_tag": first["e_tag"]})
    with pytest.raises(obstore.exceptions.NotModifiedError):
        obstore.get(store, "conditional/CURRENT", options={"if_none_match": second["e_tag"]})
    assert text(store, "conditional/CURRENT") == "2"


def test_what_was_written_is_there_after_a_kill(start_engine: Callable[[], Engine]) -> None:
    engine = start_engine()
    store = bucket(engine.endpoint)
    obstore.put(store, "a", b"kept")
    engine.restart()
    assert text_after_a_start(store, "a") == "kept"
    engine.stop()
    with pytest.raises(obstore.exceptions.BaseError):
        text(store, "a")
    engine.start()
    assert text_after_a_start(store, "a") == "kept"


@pytest.mark.parametrize(
    ("fault", "took_effect"),
    [
        (Fault("close"), False),
        (Fault("reset"), True),
        (Fault("status", 500), False),
        (Fault("status", 503), False),
        (Fault("hole"), False),
        (Fault("delay", seconds=3), True),
    ],
    ids=str,
)
def test_a_fault_hits_the_request_it_is_for(
    engine: Engine, start_proxy: Callable[[int], Proxy], fault: Fault, took_effect: bool
) -> None:
    proxy = start_proxy(engine.port)
    path = f"faults/{fault.kind}{fault.code}"
    store = bucket(proxy.endpoint)
    proxy.fault(1, fault)
    obstore.put(store, f"{path}/before", b"x")
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.put(store, f"{path}/hit", b"x")
    obstore.put(store, f"{path}/after", b"x")
    direct = bucket(engine.endpoint)
    deadline, there = time.monotonic() + 5, False
    while time.monotonic() < deadline and there is not took_effect:
        time.sleep(0.1)
        there = False
        with suppress(FileNotFoundError):
            there = text(direct, f"{path}/hit") == "x"
    assert there is took_effect
    assert text(direct, f"{path}/after") == "x"
    assert [request.method for request in proxy.requests if request.number != 1] == ["PUT", "PUT"]


def test_a_partition_ends(engine: Engine, start_proxy: Callable[[int], Proxy]) -> None:
    proxy = start_proxy(engine.port)
    store = bucket(proxy.endpoint)
    proxy.partition()
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.put(store, "partition", b"1")
    proxy.heal()
    obstore.put(store, "partition", b"2")
    assert text(store, "partition") == "2"


def test_a_client_that_retries_gets_through(engine: Engine, start_proxy: Callable[[int], Proxy]) -> None:
    proxy = start_proxy(engine.port)
    proxy.fault(0, Fault("status", 503), times=2)
    obstore.put(bucket(proxy.endpoint, retries=3), "retried", b"x")
    assert [request.status for request in proxy.requests] == [503, 503, 200]
