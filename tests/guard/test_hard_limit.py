"""The limit below the guard: Python raises ``MemoryError``, the reserve opens once, what was set before comes back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.guard.native import TRIALS, outcome

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux only")

START = """
import resource
from hotpath.guard.hard_limit import HardLimit
from hotpath.testing import FakeClock
MIB = 2**20
before = resource.getrlimit(resource.RLIMIT_DATA)
clock = FakeClock()
limit = HardLimit(32 * MIB, clock)
def fits(size):
    try:
        return len(bytearray(size * MIB)) > 0
    except MemoryError:
        return False
"""


def said(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_what_is_above_the_headroom_is_refused_and_what_is_below_fits() -> None:
    assert said("limit.follow(96 * MIB, limit.mapped(), 256 * MIB); print(fits(50), fits(80), fits(200))") == [
        "True",
        "False",
        "False",
    ]


def test_of_a_small_limit_the_reserve_takes_a_small_part() -> None:
    """Or a process with half of its 64 MiB left is refused all of it."""
    code = "limit.follow(30 * MIB, limit.mapped(), 64 * MIB); print(fits(18), fits(28)); limit.open_reserve()"
    assert said(code + "; print(fits(28), fits(40))") == ["True", "False", "True", "False"]


def test_what_is_allocated_after_the_headroom_was_looked_at_is_no_room() -> None:
    code = """
mapped = limit.mapped()
kept = bytearray(60 * MIB)
limit.follow(96 * MIB, mapped, 256 * MIB)
print(fits(30))
del kept
mapped = limit.mapped()
print(fits(50))
"""
    assert said(code) == ["False", "True"]


def test_a_request_that_gives_back_meanwhile_makes_no_room_either() -> None:
    code = """
kept = bytearray(60 * MIB)
mapped = limit.mapped()
del kept
limit.follow(96 * MIB, mapped, 256 * MIB)
print(fits(50), fits(80))
"""
    assert said(code) == ["True", "False"]


def test_the_reserve_opens_once() -> None:
    code = "limit.follow(96 * MIB, limit.mapped(), 256 * MIB); limit.open_reserve(); print(fits(80), fits(120))"
    code += "; limit.open_reserve(); print(fits(120))"
    assert said(code) == ["True", "False", "False"]


def test_whoever_stays_at_the_limit_opens_it_too() -> None:
    code = """
limit.follow(64 * MIB, limit.mapped(), 256 * MIB)
kept = []
try:
    while True:
        kept.append(bytearray(2000))
except MemoryError:
    limit.follow(0, limit.mapped(), 256 * MIB)
print(limit.reserve_used)
clock.advance(0.9)
limit.follow(0, limit.mapped(), 256 * MIB)
print(limit.reserve_used)
clock.advance(0.2)
limit.follow(0, limit.mapped(), 256 * MIB)
print(limit.reserve_used)
"""
    assert said(code) == ["False", "False", "True"], "whoever gets its error soon must not have the reserve too"


@pytest.mark.slow
def test_it_follows_what_is_mapped_and_lets_go_at_the_end() -> None:
    code = """
limit.follow(96 * MIB, limit.mapped(), 256 * MIB)
kept = bytearray(50 * MIB)
limit.follow(96 * MIB, limit.mapped(), 256 * MIB)
print(fits(50))
limit.close()
print(fits(300), resource.getrlimit(resource.RLIMIT_DATA) == before)
"""
    assert said(code) == ["True", "True", "True"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (package, _) in TRIALS.items() if package is None])
def test_python_itself_raises(name: str) -> None:
    assert outcome(name) == "MemoryError"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (package, _) in TRIALS.items() if package is not None])
def test_what_the_documents_say_of_a_library(name: str) -> None:
    """Not a promise of these libraries: where this fails, the table in docs/explanation/guard.md has to change."""
    found = outcome(name)
    if found == "not installed":
        pytest.skip(f"needs {TRIALS[name][0]}")
    seen = {"orjson.dumps": "killed by SIGSEGV", "orjson.loads": "JSONDecodeError"}
    assert found == seen.get(name, "MemoryError")
