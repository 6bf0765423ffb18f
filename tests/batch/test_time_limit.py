"""A limit on the time of code in this process: what runs on is interrupted, what was set before comes back."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from hotpath.batch import run as batch
from hotpath.batch.reports import last_run
from hotpath.batch.time_limit import time_limit
from hotpath.errors import BuildFailed
from hotpath.site import Hotpath

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no alarms here")


def test_what_takes_longer_is_interrupted_and_nothing_is_left_behind() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeoutError, match=r"it took more than 0\.05 s"), time_limit(0.05):
        time.sleep(60)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_what_is_done_in_time_is_not() -> None:
    with time_limit(0.05):
        pass
    time.sleep(0.1)


def test_an_alarm_of_somebody_else_is_left_alone() -> None:
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(True))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with time_limit(0.01):
            time.sleep(0.2)
        assert rung == [True]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_another_thread_has_no_limit_and_no_error() -> None:
    done = []

    def work() -> None:
        with time_limit(0.01):
            time.sleep(0.05)
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert done == [True]


def test_a_function_of_each_that_hangs_is_a_failed_run_and_not_a_locked_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "EACH_SECONDS", 0.2)
    hot = Hotpath(tmp_path)
    waits = [60.0]

    def each() -> list[dict[str, str]]:
        time.sleep(waits[0])
        return [{"n": "1"}]

    hot.route("/r/{n}", each=each)(lambda n: {"n": n})
    with pytest.raises(BuildFailed, match=r"each= could not be asked \(TimeoutError: it took more than 0\.2 s\)"):
        batch.build(hot)
    run = last_run(hot.store)
    assert run is not None
    assert run["outcome"] == "failed"
    waits[0] = 0.0
    assert batch.build(hot).published.generation == 1
