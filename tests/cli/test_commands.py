"""The command as a user meets it: what it prints, where, and the exit code."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

import pytest
from click.testing import CliRunner

from hotpath.cli.commands import main

APP = """
from hotpath.site import Hotpath
hot = Hotpath("var/hot")
MODE = "good"

@hot.route("/rankings/{market}", each={"market": ["kospi", "nyse"]})
def rankings(market):
    if MODE == "raise" and market == "nyse":
        raise ValueError("no prices")
    if MODE == "nan":
        return {"items": [{"pe": float("nan")}]}
    return {"market": market}

class Site:
    hot = hot
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "myapp.py").write_text(APP)
    return tmp_path


def hotpath(directory: Path, *arguments: str) -> Result:
    """As ``python -m hotpath`` in this directory; forked, since a fresh process spends most of its time on imports."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            _be_the_command(directory, arguments, out.fileno(), err.fileno())
        _, status = os.waitpid(child, 0)
        found = Result(os.waitstatus_to_exitcode(status), _text(out), _text(err))
    assert "Traceback" not in found.err, found.err
    return found


def _be_the_command(directory: Path, arguments: Sequence[str], out: int, err: int) -> NoReturn:
    code = 70
    try:
        os.chdir(directory)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.path.insert(0, str(directory))
        logging.getLogger().handlers.clear()
        main(list(arguments), prog_name="hotpath")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def program(directory: Path, *arguments: str) -> Result:
    """A process of its own."""
    found = subprocess.run(
        [sys.executable, "-m", "hotpath", *arguments], cwd=directory, capture_output=True, text=True, check=False
    )
    return Result(found.returncode, found.stdout, found.stderr)


@pytest.mark.slow
def test_as_a_program_of_its_own(project: Path) -> None:
    found = program(project, "build", "myapp:hot")
    assert (found.code, found.out.split(" to ")[0]) == (0, "published generation 1")


def mode(project: Path, name: str) -> None:
    (project / "myapp.py").write_text(APP.replace('"good"', f'"{name}"'))


@pytest.mark.slow
def test_build_status_rollback_explain(project: Path) -> None:
    done = hotpath(project, "build", "myapp:hot")
    assert done.code == 0
    assert "published generation 1" in done.out
    assert "2 items" in done.out
    assert "building 2 items" in done.err, "plain lines where there is no terminal"
    assert "\x1b" not in done.err

    again = hotpath(project, "build", "myapp:hot", "--json")
    assert json.loads(again.out)["unchanged"] == 2

    for target in ("myapp:hot", "var/hot"):
        status = hotpath(project, "status", target)
        assert status.code == 0
        assert "serving generation 2" in status.out

    back = hotpath(project, "rollback", "myapp:hot", "--reason", "wrong prices")
    assert back.code == 0
    assert "from generation 2 to 1" in back.out
    found = json.loads(hotpath(project, "status", "var/hot", "--json").out)
    assert found["serving"] == 1
    assert found["generations"][0]["state"] == ["bad: wrong prices"]
    assert hotpath(project, "rollback", "myapp:hot").code == 1
    assert hotpath(project, "unpin", "myapp:hot").code == 0
    assert hotpath(project, "pin", "myapp:hot", "2").code == 1
    assert hotpath(project, "pin", "myapp:hot", "1").code == 0

    why = hotpath(project, "explain", "myapp:hot", "/rankings/kospi", "--accept-encoding", "gzip")
    assert why.code == 0
    assert "var/hot/generations/1/files/rankings/kospi.json" in why.out
    assert "etag:" in why.out
    assert "'/rankings/{market}' is declared" in hotpath(project, "explain", "myapp:hot", "/rankings/tse").out
    assert "slash at the end" in hotpath(project, "explain", "myapp:hot", "https://example.org/rankings/kospi/").out
    assert "fold_case=True" in hotpath(project, "explain", "myapp:hot", "/rankings/KOSPI").out
    assert "no declared route has this shape" in hotpath(project, "explain", "myapp:hot", "/x").out
    assert hotpath(project, "explain", "myapp:hot", "/x").code == 1
    explained = json.loads(hotpath(project, "explain", "myapp:hot", "/rankings/kospi?a=1", "--json").out)
    assert not explained["hot"]
    assert "query=" in explained["reason"]


@pytest.mark.parametrize(
    ("name", "told"),
    [("raise", "/rankings/nyse: ValueError: no prices at "), ("nan", "$.items[0].pe is nan")],
)
def test_a_failed_item_is_named_and_the_old_generation_stays(project: Path, name: str, told: str) -> None:
    hotpath(project, "build", "myapp:hot")
    mode(project, name)
    failed = hotpath(project, "build", "myapp:hot", "--max-failures", "0")
    assert failed.code == 1
    assert told in failed.err
    assert "nothing was published" in failed.err
    assert json.loads(hotpath(project, "status", "var/hot", "--json").out)["serving"] == 1


def test_a_first_run_with_failures_is_published_with_partial(project: Path) -> None:
    mode(project, "raise")
    refused = hotpath(project, "build", "myapp:hot", "--json", "--max-failures", "0.9")
    assert refused.code == 1
    assert "--partial publishes the 1 that" in refused.err
    assert [group["count"] for group in json.loads(refused.out)["failure_groups"]] == [1]
    partial = hotpath(project, "build", "myapp:hot", "--partial")
    assert partial.code == 0
    assert "published generation 1 to " in partial.out
    assert "var/hot: 1 item, " in partial.out
    assert "those that the app answers for: 1" in partial.err


@pytest.mark.slow
def test_one_failed_item_keeps_its_last_good_bytes_and_is_retried(project: Path) -> None:
    hotpath(project, "build", "myapp:hot")
    mode(project, "raise")
    carried = hotpath(project, "build", "myapp:hot", "--json")
    assert carried.code == 0
    assert "FAILED /rankings/nyse: ValueError: no prices" in carried.err
    assert "its last good bytes stay" in carried.err
    report = json.loads(carried.out)
    assert report["generation"] == 2
    assert [(one["key"], one["carried"]) for one in report["failures"]] == [("/rankings/nyse", True)]
    assert "1 items past" not in hotpath(project, "status", "var/hot").out
    mode(project, "good")
    retried = hotpath(project, "build", "myapp:hot", "--retry-failed", "--json")
    assert json.loads(retried.out)["failures"] == []
    assert "1/1 item" in retried.err
    # Again, as from cron: a success that publishes nothing, since a copy would claim to be newer than it is.
    again = hotpath(project, "build", "myapp:hot", "--retry-failed")
    assert (again.code, again.err) == (0, "")
    assert again.out.startswith("nothing failed in the last run")
    assert json.loads(hotpath(project, "build", "myapp:hot", "--retry-failed", "--json").out)["generation"] is None
    assert hotpath(project, "build", "myapp:hot", "--retry-failed", "--quiet") == Result(0, "", "")
    assert json.loads(hotpath(project, "status", "var/hot", "--json").out)["serving"] == 3


def test_limits_that_cannot_work_are_usage_errors(project: Path) -> None:
    for option, value in (("--memory", "much"), ("--timeout", "0"), ("--workers", "0"), ("--max-failures", "7")):
        refused = hotpath(project, "build", "myapp:hot", option, value)
        assert refused.code == 2
        assert value in refused.err


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("myapp", "write myapp:hot"),
        ("myapp.py", "write myapp:hot"),
        ("nothere:hot", "no module 'nothere'"),
        ("myapp:cold", "has no attribute 'cold'; it has myapp:hot"),
        ("myapp:MODE", "this is a str, expected a Hotpath"),
        ("myapp:Site", "write myapp:hot"),
        ("broken:hot", "ZeroDivisionError: division by zero"),
        ("missing:hot", "No module named 'nowhere'"),
        ("syntax:hot", "SyntaxError"),
        ("leaves:hot", "importing leaves failed"),
        ("django_site:hot", "ImproperlyConfigured: no settings; write 'python manage.py hotpath …' beside manage.py"),
        ("./myapp.py:hot", "write myapp:hot"),
        ("myapp.py:hot", "write myapp:hot"),
        ("./myapp:hot", "write myapp:hot"),
        ("there", "this is a directory, expected module:attribute"),
        ("myapp.hot:hot", "there is no module 'myapp.hot'; write myapp:hot"),
        ("inner:hot", "; run the command in there, which has inner.py"),
    ],
)
def test_a_wrong_target_says_what_and_where(project: Path, target: str, told: str) -> None:
    (project / "broken.py").write_text("x = 1\n1 / 0\n")
    (project / "missing.py").write_text("\nimport nowhere\n")
    (project / "syntax.py").write_text("def f(:\n")
    (project / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    (project / "django_site.py").write_text(
        "class ImproperlyConfigured(Exception): ...\n\nraise ImproperlyConfigured('no settings')\n"
    )
    (project / "there").mkdir()
    (project / "there/inner.py").write_text("")
    found = hotpath(project, "build", target)
    assert found.code == 2
    assert told in found.err
    for name, line in (("broken", 2), ("missing", 2), ("syntax", 1)):
        if target.startswith(name):
            assert f"{name}.py:{line}" in found.err


def test_a_wrong_declaration_is_a_usage_error_with_its_line(project: Path) -> None:
    (project / "wrong.py").write_text(
        "from hotpath.site import Hotpath\nhot = Hotpath('x')\n@hot.route('/r/{m}')\ndef f(m): ...\n"
    )
    found = hotpath(project, "build", "wrong:hot")
    assert found.code == 2
    assert "wrong.py:3" in found.err
    assert "write each=" in found.err


def test_status_of_what_is_no_store(project: Path) -> None:
    assert hotpath(project, "status", "nowhere/hot").code == 2
    assert hotpath(project, "status", "myapp.py").code == 2
    (project / "empty").mkdir()
    found = hotpath(project, "status", "empty")
    assert found.code == 1
    assert "hotpath build" in found.out or "nothing is published" in found.out


def test_a_store_that_cannot_be_made_names_path_and_fix(project: Path) -> None:
    (project / "var").write_text("a file")
    found = hotpath(project, "build", "myapp:hot")
    assert found.code == 1
    assert "var" in found.err
    assert "a part of this path is a file; give another directory" in found.err


def test_import(project: Path) -> None:
    source = project / "out"
    (source / "rankings").mkdir(parents=True)
    (source / "rankings" / "kospi.json").write_text('{"a": 1}')
    (source / "rankings" / "kospi.json.gz").write_bytes(b"of another program")
    (source / "index.html").write_text("<p>")
    done = hotpath(project, "import", "var/hot", "out", "--strip-suffix", ".json", "--prefix", "/api")
    assert done.code == 0
    assert "2 items" in done.out
    manifest = json.loads((project / "var/hot/generations/1/manifest.json").read_text())
    assert sorted(item["key"] for item in manifest["items"]) == ["/api/", "/api/rankings/kospi"]
    assert hotpath(project, "import", "var/hot", "nothere").code == 2
    swapped = hotpath(project, "import", "out", "var/hot")
    assert swapped.code == 2
    assert "this is a store, expected a directory of files; write 'hotpath import STORE DIRECTORY'" in swapped.err
    for arguments in (("import", "", "out"), ("import", "var/hot", ""), ("status", ""), ("prune", "")):
        unset = hotpath(project, *arguments)
        assert (unset.code, "is a variable of the shell not set" in unset.err) == (2, True), arguments
    assert not (project / "generations").exists()


def test_import_refuses_what_could_not_be_served_and_names_every_file(project: Path) -> None:
    source = project / "out"
    source.mkdir()
    (source / "good.json").write_text("{}")
    (source / "torn.json").write_text('{"a":')
    first = hotpath(project, "import", "var/hot", "out")
    assert first.code == 1
    assert "torn.json" in first.err
    (source / "torn.json").unlink()
    (source / "A.json").write_text("{}")
    (source / "a.json").write_text("{}")
    (source / "link.json").symlink_to("/etc/passwd")
    os.mkfifo(source / "fifo.json")
    Path(os.fsdecode(bytes(source) + b"/caf\xe9.json")).write_text("{}")
    found = hotpath(project, "import", "var/hot", "out")
    assert found.code == 1
    assert "4 files cannot be served" in found.err
    for told in ("a.json: has the key of A.json", "link.json: is a link", "fifo.json: is no regular file", "\\xe9"):
        assert told in found.err
    assert not (project / "var/hot/CURRENT").exists()


def test_help_and_version_and_unknown_commands(project: Path) -> None:
    helped = hotpath(project, "--help")
    assert helped.code == 0
    for word in ("build", "status", "rollback", "import", "explain", "demo", "75"):
        assert word in helped.out
    assert hotpath(project, "--version").out.startswith("hotpath")
    assert hotpath(project, "bild", "myapp:hot").code == 2


def test_without_its_extra_the_command_says_what_to_install(project: Path) -> None:
    (project / "click.py").write_text("raise ModuleNotFoundError(\"No module named 'click'\", name='click')")
    found = program(project, "build", "myapp:hot")
    assert found.code == 1
    assert "pip install 'asgi-hotpath[cli]'" in found.err


def test_the_help_lists_each_command_in_its_section_and_cuts_no_line() -> None:
    text = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    listed = text[text.index("Run:") : text.index("  Example:")]
    assert re.findall(r"^(\w.*):$", listed, re.MULTILINE) == ["Run", "Build", "Look", "Repair", "Set up"]
    whole = re.findall(r"^  (\w+)  +\S.*[.]$", listed, re.MULTILINE)
    assert sorted(whole) == sorted(main.commands)
    assert "..." not in listed
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("name", sorted(main.commands))
def test_the_help_of_each_command_has_an_example(name: str) -> None:
    text = CliRunner().invoke(main, [name, "--help"], terminal_width=80).output
    assert f"Example: hotpath {name}" in text.splitlines()[-1]
