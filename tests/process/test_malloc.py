"""Freed memory goes back to the kernel where the C library is glibc; nothing happens elsewhere."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from hotpath.process.malloc import trim_malloc


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_what_is_left_between_living_blocks_goes_back() -> None:
    code = """
from hotpath.process.malloc import trim_malloc
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
blocks = [bytes(2000) for _ in range(50_000)]  # too large for pymalloc, too small to be mapped one by one
kept = blocks[::100]
del blocks
before = resident()
assert trim_malloc() is True
print(before - resident())
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) > 50 * 2**20


def test_a_library_without_the_function_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert trim_malloc() is False


def test_no_library_at_all_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: object) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert trim_malloc() is False
