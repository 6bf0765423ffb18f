"""``# hotpath: bounded – reason``: who knows why something cannot grow says so where it is made or where it grows."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotpath.audit.findings import Pattern
from hotpath.audit.report import Audit, audit

GROWS = "SEEN = {}\n\ndef f(key):\n    SEEN[key] = work(key)\n"


def audited(tmp_path: Path, code: str | bytes) -> Audit:
    file = tmp_path / "app.py"
    file.write_bytes(code.encode() if isinstance(code, str) else code)
    return audit([file])


def test_without_a_comment_it_is_found(tmp_path: Path) -> None:
    found = audited(tmp_path, GROWS)
    assert [one.name for one in found.findings] == ["SEEN"]
    assert found.silenced == 0


@pytest.mark.parametrize(
    "code",
    [
        GROWS.replace("{}", "{}  # hotpath: bounded – one entry for each of eleven markets"),
        GROWS.replace("{}", "{}  # hotpath: bounded - eleven markets"),
        GROWS.replace("{}", "{}  #hotpath:bounded: eleven markets"),
        GROWS.replace("{}", "{}  # Hotpath: Bounded, eleven markets"),
        GROWS.replace("{}", "{}  # type: ignore  # hotpath: bounded by eleven markets"),
        f"# hotpath: bounded – eleven markets\n{GROWS}",
        f"# hotpath: bounded – eleven markets\n# and a comment below it\n\n{GROWS}",
        GROWS.replace("work(key)", "work(key)  # hotpath: bounded – eleven markets"),
        GROWS.replace("    SEEN", "    # hotpath: bounded – eleven markets\n    SEEN"),
        GROWS.replace("{}", "{  # hotpath: bounded – eleven markets\n}"),
        GROWS.replace("{}", "{\n}  # hotpath: bounded – eleven markets"),
        GROWS.replace("\n", "\r\n").replace("{}", "{}  # hotpath: bounded – eleven markets"),
        b"\xef\xbb\xbf# hotpath: bounded \xe2\x80\x93 eleven markets\n" + GROWS.encode(),
        b"# coding: latin-1\n# hotpath: bounded, \xe9l\xe9ments\n" + GROWS.encode(),
        "from functools import cache\n\n# hotpath: bounded – eleven markets\n@cache\ndef f(key): ...\n",
        "from functools import cache\n\n@cache  # hotpath: bounded – eleven markets\ndef f(key): ...\n",
        "from functools import cache\n\n@cache\ndef f(key):  # hotpath: bounded – eleven markets\n    ...\n",
    ],
)
def test_a_comment_with_a_reason_silences_one(tmp_path: Path, code: str | bytes) -> None:
    found = audited(tmp_path, code)
    assert (found.findings, found.silenced) == ((), 1)


@pytest.mark.parametrize(
    "code",
    [
        f'"""# hotpath: bounded – in a string"""\n{GROWS}',
        f"OTHER = 1  # hotpath: bounded – of the line above\n{GROWS}",
        f"{GROWS}# hotpath: bounded – at the end\n",
        GROWS.replace("{}", "{}  # hotpath is bounded"),
        GROWS.replace("{}", "{}  # hotpath: boundedness"),
    ],
)
def test_a_comment_about_something_else_silences_nothing(tmp_path: Path, code: str) -> None:
    found = audited(tmp_path, code)
    assert [one.name for one in found.findings] == ["SEEN"]
    assert found.silenced == 0


@pytest.mark.parametrize("comment", ["# hotpath: bounded", "# hotpath: bounded –", "# hotpath: bounded: …"])
def test_a_comment_without_a_reason_is_itself_a_finding(tmp_path: Path, comment: str) -> None:
    found = audited(tmp_path, GROWS.replace("{}", f"{{}}  {comment}"))
    assert [one.pattern for one in found.findings] == [Pattern.NO_REASON, Pattern.GROWING_GLOBAL]
    assert found.findings[0].instead.startswith("# hotpath: bounded – ")


def test_one_comment_silences_its_own_line_only(tmp_path: Path) -> None:
    two = GROWS + GROWS.replace("SEEN", "OTHER").replace("{}", "{}  # hotpath: bounded – eleven markets")
    found = audited(tmp_path, two)
    assert [one.name for one in found.findings] == ["SEEN"]
    assert found.silenced == 1
