"""``hotpath audit`` over files as they are found: broken, old, hidden; what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from hotpath.audit.findings import Pattern, Unread
from hotpath.audit.report import MAX_FILE_BYTES, audit
from hotpath.audit.source import File, read_source
from hotpath.cli.commands import main
from hotpath.errors import NothingToAudit

GROWS = "SEEN = {}\n\ndef f(key):\n    SEEN[key] = work(key)\n"
QUIET = "def f(key):\n    return key\n"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


def write(path: Path, code: str | bytes = GROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(code.encode() if isinstance(code, str) else code)
    return path


def test_the_line_the_reason_and_the_replacement_are_printed(tmp_path: Path) -> None:
    file = write(tmp_path / "app.py")
    told = run(tmp_path)
    assert told.exit_code == 1
    assert told.stdout.splitlines() == [
        f"{file}:1: growing-global: f() adds one more for every key it has not seen and nothing takes one out (line 4)",
        "    - SEEN = {}",
        "    + SEEN = LRUCache(max_entries=1024)  # from hotpath import LRUCache",
        "1 finding in 1 file, 4 lines",
    ]


def test_the_replacement_runs(tmp_path: Path) -> None:
    (one,) = audit([write(tmp_path / "app.py")]).findings
    namespace: dict[str, Any] = {"work": str}
    exec("from hotpath import LRUCache\n" + GROWS.replace(one.text, one.instead), namespace)
    for number in range(3000):
        namespace["f"](number)
    assert len(namespace["SEEN"]) == 1024
    assert audit([write(tmp_path / "app.py", GROWS.replace(one.text, one.instead))]).findings == ()


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (QUIET, 0),
        (GROWS, 1),
        ("", 0),
        (GROWS.replace("{}", "{}  # hotpath: bounded – eleven markets"), 0),
        ("from functools import cache\n@cache\ndef f(cls): ...\n", 0),  # a note is no finding
        ("def f(:\n", 0),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_exit_codes(tmp_path: Path, code: str, exit_code: int, options: tuple[str, ...]) -> None:
    assert run(write(tmp_path / "app.py", code), *options).exit_code == exit_code


def test_a_path_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    assert run(tmp_path / "none").exit_code == 2
    assert run().exit_code == 2


def test_a_folder_without_python_is_an_error_and_not_a_clean_bill(tmp_path: Path) -> None:
    write(tmp_path / "README.md", "text")
    told = run(tmp_path)
    assert told.exit_code == 2
    assert "no Python files" in told.stderr
    with pytest.raises(NothingToAudit) as caught:
        audit([tmp_path])
    assert caught.value.paths == (tmp_path,)


@pytest.mark.parametrize(
    ("data", "line", "problem"),
    [
        (b"X = 1\ndef f(:\n", 2, "syntax error: invalid syntax"),
        (b"print 'an old one'\n", 1, "syntax error: "),
        (b"# coding: nonsense\nx = 1\n", None, "syntax error: unknown encoding: nonsense"),
        (b"x = 1\ny = '\xff'\n", 2, "syntax error: (unicode error) 'utf-8' codec can't decode"),
        (b"x = '\x00'\n", None, "null bytes"),
        ("x = 'é'\n".encode("utf-16"), None, "null bytes"),
        (b"x = " + b"-" * 100_000 + b"1\n", None, "nested too deeply to be read"),
        (b"x = a" + b".b" * 50_000 + b"\n", None, "nested too deeply to be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_of_and_passed_over(
    tmp_path: Path, data: bytes, line: int | None, problem: str
) -> None:
    bad = write(tmp_path / "bad.py", data)
    write(tmp_path / "app.py")
    found = audit([tmp_path])
    (unread,) = found.unread
    assert (unread.path, unread.line) == (str(bad), line)
    assert problem in unread.problem
    assert [one.name for one in found.findings] == ["SEEN"]
    told = run(tmp_path)
    assert told.exit_code == 1
    assert f"{bad}{f':{line}' if line else ''}: skipped, " in told.stdout
    assert told.stdout.endswith("; 1 file skipped\n")


def test_a_file_in_another_coding_is_read(tmp_path: Path) -> None:
    latin = "# -*- coding: latin-1 -*-\nGRÖSSEN = {}\ndef f(key):\n    GRÖSSEN[key] = str(key)\n"
    write(tmp_path / "latin.py", latin.encode("latin-1"))
    write(tmp_path / "mark.py", b"\xef\xbb\xbf" + GROWS.encode())
    write(tmp_path / "old_mac.py", GROWS.replace("\n", "\r"))
    write(tmp_path / "dos.py", GROWS.replace("\n", "\r\n") + "\x0c\r\n")
    found = audit([tmp_path])
    assert not found.unread
    assert [(one.line, one.text) for one in found.findings] == [
        (1, "SEEN = {}"),
        (2, "GRÖSSEN = {}"),
        (1, "SEEN = {}"),
        (1, "SEEN = {}"),
    ]
    assert run(tmp_path).exit_code == 1


def test_a_file_that_may_not_be_read_or_is_gone_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "dangling.py").symlink_to(tmp_path / "gone.py")
    write(tmp_path / "app.py")
    found = audit([tmp_path])
    assert [(one.path, one.problem) for one in found.unread] == [
        (str(tmp_path / "dangling.py"), "cannot be read: No such file or directory")
    ]
    assert len(found.findings) == 1


def test_a_file_too_large_to_be_code_is_passed_over(tmp_path: Path) -> None:
    with (tmp_path / "data.py").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert "larger than 16,777,216 bytes" in audit([tmp_path]).unread[0].problem


def test_nothing_of_the_audited_code_is_imported_or_run(tmp_path: Path) -> None:
    planted = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nraise SystemExit(9)\n"
    write(tmp_path / "shop/__init__.py", planted + GROWS)
    write(tmp_path / "shop/sitecustomize.py", planted)
    write(tmp_path / "conftest.py", planted)
    command = [sys.executable, "-m", "hotpath", "audit", "--json", "."]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False)
    assert told.returncode == 1, told.stderr
    assert json.loads(told.stdout)["findings"][0]["path"] == "shop/__init__.py"
    assert not list(tmp_path.rglob("ran"))
    assert not list(tmp_path.rglob("__pycache__"))


def test_reading_changes_nothing_in_this_process(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", "x = 1 is 1\ny = '\\d'\n" + GROWS)  # two SyntaxWarnings, errors in these tests
    before = set(sys.modules)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert len(audit([tmp_path]).findings) == 1
    assert told == []
    assert "shop" not in set(sys.modules) - before


def test_which_files_are_read(tmp_path: Path) -> None:
    for name in (
        "app.py",
        "shop/views.py",
        "shop/tests/test_views.py",
        "shop/tests.py",
        "test_app.py",
        "conftest.py",
        ".git/hook.py",
        "node_modules/x.py",
        "__pycache__/x.py",
        "site-packages/x.py",
        "venv/pyvenv.cfg",
        "venv/lib/x.py",
        "notes.txt",
    ):
        write(tmp_path / name, QUIET)
    assert audit([tmp_path]).files == 2
    assert audit([tmp_path], tests=True).files == 6
    assert audit([tmp_path / "test_app.py"]).files == 1  # who names it wants it
    assert audit([tmp_path / "shop" / "tests"]).files == 1


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    write(tmp_path / "app.py")
    (tmp_path / "link.py").symlink_to(tmp_path / "app.py")
    found = audit([tmp_path, tmp_path / "app.py", tmp_path / "." / "app.py"])
    assert (found.files, len(found.findings)) == (1, 1)


def test_notes_are_shown_when_all_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "app.py", "from functools import cache\n@cache\ndef fields(cls): ...\n")
    assert run(tmp_path).stdout == "0 findings in 1 file, 3 lines; 1 more are bounded by the code (--all shows them)\n"
    told = run(tmp_path, "--all").stdout.splitlines()
    assert told[0].startswith(f"{tmp_path / 'app.py'}:2: note, unbounded-cache: cache without a maximum on fields(): ")
    assert told[-1] == "0 findings in 1 file, 3 lines"


def test_json(tmp_path: Path) -> None:
    write(tmp_path / "app.py")
    write(tmp_path / "bad.py", "def f(:\n")
    assert json.loads(run(tmp_path, "--json").stdout) == {
        "findings": [
            {
                "path": str(tmp_path / "app.py"),
                "line": 1,
                "pattern": "growing-global",
                "level": "warning",
                "name": "SEEN",
                "why": "f() adds one more for every key it has not seen and nothing takes one out",
                "grows_at": "line 4",
                "text": "SEEN = {}",
                "instead": "SEEN = LRUCache(max_entries=1024)  # from hotpath import LRUCache",
            }
        ],
        "notes": [],
        "unread": [{"path": str(tmp_path / "bad.py"), "line": 1, "problem": "syntax error: invalid syntax"}],
        "files": 1,
        "lines": 4,
        "silenced": 0,
    }


def test_the_same_every_time(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / f"m{number}.py", f"A{number} = {{}}\nB = []\n" + GROWS.replace("SEEN", f"A{number}"))
    assert run(tmp_path, "--json", "--all").stdout == run(tmp_path, "--json", "--all").stdout


def check_sarif(log: Any) -> None:
    """What OASIS SARIF 2.1.0 requires of the properties that are used here, by the sections that say so."""
    assert log["version"] == "2.1.0"  # 3.13.2
    assert set(log) <= {"$schema", "version", "runs"}
    for one in log["runs"]:
        assert set(one) <= {"tool", "columnKind", "results", "invocations"}
        driver = one["tool"]["driver"]  # 3.14.6, 3.18.2
        assert driver["name"]  # 3.19.8
        rules = [rule["id"] for rule in driver["rules"]]  # 3.49.3
        assert len(set(rules)) == len(rules)
        assert all(rule["shortDescription"]["text"] for rule in driver["rules"])  # 3.11.8
        assert one["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")  # 3.14.17
        for result in one["results"]:
            assert rules[result["ruleIndex"]] == result["ruleId"]  # 3.27.6
            assert result["level"] in ("none", "note", "warning", "error")  # 3.27.10
            assert result["message"]["text"]  # 3.27.11
            assert all(isinstance(value, str) for value in result["partialFingerprints"].values())  # 3.27.17
            check_locations(result["locations"])
        for invocation in one["invocations"]:
            assert isinstance(invocation["executionSuccessful"], bool)  # 3.20.14
            for told in invocation["toolExecutionNotifications"]:
                assert told["message"]["text"]  # 3.58.5
                assert told["level"] in ("none", "note", "warning", "error")
                check_locations(told["locations"])


def check_locations(locations: Any) -> None:
    for location in locations:
        place = location["physicalLocation"]
        assert place["artifactLocation"]["uri"].isascii()  # 3.4.3, RFC 3986
        assert not set(' "<>\\^`{|}') & set(place["artifactLocation"]["uri"])
        assert place.get("region", {"startLine": 1})["startLine"] >= 1  # 3.30.5


def test_sarif(tmp_path: Path) -> None:
    write(tmp_path / "a folder" / "näme.py", GROWS + "\nfrom functools import cache\n@cache\ndef g(cls): ...\n")
    write(tmp_path / "bad.py", "# coding: nonsense\n")
    target = tmp_path / "out.sarif"
    assert run(tmp_path, "--sarif", target, "--all").exit_code == 1
    log = json.loads(target.read_text("utf-8"))
    check_sarif(log)
    (one,) = log["runs"]
    assert [(result["ruleId"], result["level"]) for result in one["results"]] == [
        ("growing-global", "warning"),
        ("unbounded-cache", "note"),
    ]
    first = one["results"][0]["locations"][0]["physicalLocation"]
    assert first["artifactLocation"]["uri"].endswith("/a%20folder/n%C3%A4me.py")
    assert first["region"] == {"startLine": 1}
    assert "LRUCache(max_entries=1024)" in one["results"][0]["message"]["text"]
    (told,) = one["invocations"][0]["toolExecutionNotifications"]
    assert "unknown encoding" in told["message"]["text"]
    assert [rule["id"] for rule in one["tool"]["driver"]["rules"]] == list(Pattern)


def test_sarif_without_findings_is_a_run_without_results(tmp_path: Path) -> None:
    write(tmp_path / "app.py", QUIET)
    target = tmp_path / "out.sarif"
    assert run(tmp_path, "--sarif", target).exit_code == 0
    log = json.loads(target.read_text("utf-8"))
    check_sarif(log)
    assert log["runs"][0]["results"] == []


def test_a_finding_is_known_again_when_lines_above_it_change(tmp_path: Path) -> None:
    prints = []
    for above in ("", "import os\n\n\n"):
        write(tmp_path / "app.py", above + GROWS)
        run(tmp_path, "--sarif", tmp_path / "out.sarif")
        log = json.loads((tmp_path / "out.sarif").read_text("utf-8"))
        prints.append(log["runs"][0]["results"][0]["partialFingerprints"])
    assert prints[0] == prints[1]


@pytest.mark.slow
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_passed_over(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert isinstance(read_source("any.py", "any", data), File | Unread)


def test_its_own_source_is_clean() -> None:
    root = Path(__file__).parents[2] / "src" / "hotpath"
    found = audit([root])
    assert found.files > 100
    assert [(one.path, one.line, one.why) for one in found.findings] == []
    assert found.unread == ()


@pytest.mark.slow
def test_the_standard_library_is_read_to_its_end() -> None:
    """Every kind of statement and expression there is: match, star, walrus, async comprehensions, type parameters."""
    root = Path(os.__file__).parent
    found = audit([root / name for name in ("asyncio", "email", "http", "json", "concurrent", "typing.py", "ast.py")])
    assert found.files > 70
    assert found.unread == ()


def audited(path: Path) -> Any:
    """In a process of its own, whose memory and time are bounded."""
    code = (
        "import json, resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30));"
        " from pathlib import Path; from hotpath.audit.report import audit; report = audit([Path(sys.argv[1])]);"
        " print(json.dumps([report.files, [[unread.path, unread.problem] for unread in report.unread]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr[-500:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize("kind", ["fifo", "zero", "full", "socket", "link to a fifo"])
def test_what_is_no_regular_file_is_skipped(tmp_path: Path, kind: str, *, is_named: bool) -> None:
    write(tmp_path / "app.py")
    odd = tmp_path / "x.py"
    with socket.socket(socket.AF_UNIX) as server:
        match kind:
            case "fifo":
                os.mkfifo(odd)
            case "socket":
                server.bind(os.path.relpath(odd))
            case "link to a fifo":
                os.mkfifo(tmp_path / "pipe")
                odd.symlink_to("pipe")
            case _:
                odd.symlink_to(f"/dev/{kind}")
        files, unread = audited(odd if is_named else tmp_path)
    assert files == (0 if is_named else 1)
    assert unread == [[odd.as_posix(), "not a regular file"]]


def test_links_in_a_circle_and_links_to_nothing_are_skipped(tmp_path: Path) -> None:
    write(tmp_path / "app.py")
    (tmp_path / "a.py").symlink_to("b.py")
    (tmp_path / "b.py").symlink_to("a.py")
    (tmp_path / "gone.py").symlink_to("nowhere")
    (tmp_path / "folder").symlink_to(tmp_path)
    files, unread = audited(tmp_path)
    assert files == 1
    assert [(Path(path).name, problem.partition(":")[0]) for path, problem in unread] == [
        ("a.py", "cannot be read"),
        ("b.py", "cannot be read"),
        ("gone.py", "cannot be read"),
    ]


def test_a_folder_that_may_not_be_read_is_reported_as_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``os.scandir`` refuses it, also where the tests run as root."""
    write(tmp_path / "app.py")
    closed = tmp_path / "closed"
    write(closed / "b.py")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = audit([tmp_path])
    assert report.files == 1
    assert [(unread.path, unread.problem) for unread in report.unread] == [
        (closed.as_posix(), "cannot be read: Permission denied")
    ]


def test_a_name_that_is_no_utf_8_can_be_printed_and_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.py")
    write(tmp_path / name)
    result = run(tmp_path, "--sarif", tmp_path / "out.sarif")
    assert result.exit_code == 1
    assert "caf\\xe9.py:1" in result.output
