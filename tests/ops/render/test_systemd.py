"""Units that systemd 252 itself takes: their options, their times, their exposure, and any path in them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from hotpath.errors import DeclarationError
from hotpath.ops.render.files import RenderedFile, write
from hotpath.ops.render.systemd import render
from hotpath.store.sharing import Sharing
from tests.ops.render.conftest import AWKWARD, MakeFacts

ANALYZE = shutil.which("systemd-analyze")
MANAGER = Path("/lib/systemd/systemd")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze: apt-get install systemd")
LAYOUTS = ("serve", "two", "none")
# 'OK' ends at 4.0: 10 is a service that may do all that root may.
MOST_EXPOSED = 40
SHARED = Sharing("s3://bucket/site?endpoint_url=https://s3.example.org")


def texts(files: Sequence[RenderedFile]) -> dict[str, str]:
    return {Path(file.path).name: file.text for file in files}


def options(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def install(files: Sequence[RenderedFile], root: Path) -> list[Path]:
    write(files, root)
    return [path for path in sorted((root / "etc/systemd/system").iterdir()) if "@" not in path.name]


def analyze(*arguments: str | Path, units: Path) -> subprocess.CompletedProcess[str]:
    # The colon at the end: systemd's own units are found too.
    environ = {**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:", "SYSTEMD_LOG_LEVEL": "warning"}
    return subprocess.run(
        [str(ANALYZE), *map(str, arguments)], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_option_has_a_comment_of_one_line(make_facts: MakeFacts, layout: str) -> None:
    for name, text in texts(render(make_facts(layout=layout, mail="me@example.org"))).items():
        before = ""
        for line in text.splitlines():
            if line and not line.startswith(("#", "[")):
                assert before.startswith("# "), f"{name}: {line}"
            before = line


def test_one_unit_and_a_socket(make_facts: MakeFacts) -> None:
    units = texts(render(make_facts(memory_bytes="700MiB", port=8100, workers=2)))
    assert list(units) == [
        *("site.socket", "site.service", "site-build.service", "site-build.timer"),
        *("site-check.service", "site-check.timer", "site-alert@.service", "site.conf"),
    ]
    service = units["site.service"]
    assert options(service, "MemoryMax") == ["900M"]
    assert options(service, "MemoryHigh") == ["infinity"]
    (command,) = options(service, "ExecStart")
    assert "hotpath serve shop:app --store /" in command
    assert command.endswith(" --systemd --trust 127.0.0.1/32 --workers 2 --memory 700MiB --admin 127.0.0.1:9180")
    assert options(units["site.socket"], "ListenStream") == ["127.0.0.1:8100"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_site_with_an_origin_follows_it_by_its_front_or_by_a_unit_of_its_own(
    make_facts: MakeFacts, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = make_facts(layout=layout)
    before = texts(render(facts))
    monkeypatch.setattr(facts.site, "sharing", SHARED)
    units = texts(render(facts))
    if layout == "none":
        (command,) = options(units["site-follow.service"], "ExecStart")
        assert command.endswith(f' follow shop:hot --origin "{SHARED.origin}"')
    else:
        assert "site-follow.service" not in units
    if layout == "serve":
        (command,) = options(units["site.service"], "ExecStart")
        assert command.endswith(f' --origin "{SHARED.origin}"')
    monkeypatch.setattr(facts.site, "sharing", Sharing("off"))
    assert texts(render(facts)) == before


def test_two_units_meet_at_a_socket(make_facts: MakeFacts) -> None:
    units = texts(render(make_facts(layout="two")))
    (front,), (app,) = options(units["site.service"], "ExecStart"), options(units["site-app.service"], "ExecStart")
    assert "front shop:hot --to unix:/run/site-app/app.sock --systemd" in front
    assert "uvicorn shop:app --uds /run/site-app/app.sock" in app
    assert options(units["site-app.service"], "RuntimeDirectory") == ["site-app"]


def test_the_app_alone_has_the_port_and_no_socket(make_facts: MakeFacts) -> None:
    units = texts(render(make_facts(layout="none")))
    assert "site.socket" not in units
    assert "--port 8000" in units["site.service"]


@pytest.mark.parametrize(("has_guard", "type_"), [(True, "notify"), (False, "exec")])
def test_only_an_app_with_a_guard_notifies(make_facts: MakeFacts, has_guard: bool, type_: str) -> None:
    app = texts(render(make_facts(layout="two", has_guard=has_guard)))["site-app.service"]
    assert options(app, "Type") == [type_]
    assert bool(options(app, "WatchdogSec")) is has_guard


@pytest.mark.parametrize(("has_swap", "high", "swap"), [(True, "400M", "infinity"), (False, "infinity", "0")])
def test_the_batch_is_throttled_only_where_there_is_swap(
    make_facts: MakeFacts, has_swap: bool, high: str, swap: str
) -> None:
    batch = texts(render(make_facts(has_swap=has_swap)))["site-build.service"]
    assert (options(batch, "MemoryHigh"), options(batch, "MemorySwapMax")) == ([high], [swap])


def test_the_check_is_half_an_hour_later_also_over_midnight(make_facts: MakeFacts) -> None:
    units = texts(render(make_facts(batch_time="23:45")))
    assert options(units["site-build.timer"], "OnCalendar") == ["*-*-* 23:45:00"]
    assert options(units["site-check.timer"], "OnCalendar") == ["*-*-* 00:15:00"]


def test_alerts_only_where_they_can_be_sent(make_facts: MakeFacts) -> None:
    silent, mailed = render(make_facts()), render(make_facts(mail="me@example.org"))
    assert "--alert" not in options(texts(silent)["site-build.service"], "ExecStart")[0]
    build = texts(mailed)["site-build.service"]
    assert options(build, "ExecStart")[0].endswith(" --alert")
    assert "HOTPATH_ALERT_MAIL_TO=me@example.org" in options(build, "Environment")[0]
    # What an administrator sets comes first: the file is read after Environment=.
    assert build.index("Environment=") < build.index("EnvironmentFile=")


def test_a_store_alone_has_no_batch(make_facts: MakeFacts) -> None:
    units = texts(render(make_facts(of_store=True, app="mysite:app")))
    assert "site-build.service" not in units
    assert "serve mysite:app --store /" in units["site.service"]


def test_a_path_with_a_newline_is_refused_in_one_line(make_facts: MakeFacts) -> None:
    for where in ({"directory": "a\nb"}, {"store": "var/a\nb"}):
        with pytest.raises(DeclarationError, match=r"which a file of systemd cannot hold; use another path$"):
            render(make_facts(**where))


@needs_systemd
@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("directory", ["site", AWKWARD])
def test_systemd_verifies_them(
    make_facts: MakeFacts, tmp_path: Path, layout: str, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = make_facts(directory, layout=layout, mail="me@example.org", has_guard=True)
    monkeypatch.setattr(facts.site, "sharing", SHARED)
    units = install(render(facts), tmp_path / "root")
    done = analyze("verify", "--man=no", "--recursive-errors=no", *units, units=units[0].parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.slow
def test_an_option_that_252_does_not_have_is_seen(make_facts: MakeFacts, tmp_path: Path) -> None:
    """Without this the test above would pass where verify ignores what it does not know."""
    files = [
        RenderedFile(file.path, file.text.replace("RuntimeRandomizedExtraSec=", "RuntimeRandomisedExtraSec="))
        for file in render(make_facts())
    ]
    units = install(files, tmp_path / "root")
    done = analyze("verify", "--man=no", *units, units=units[0].parent)
    assert "Unknown key 'RuntimeRandomisedExtraSec' in section [Service]" in done.stderr


@needs_systemd
@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_service_is_exposed(
    make_facts: MakeFacts, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = make_facts(layout=layout)
    monkeypatch.setattr(facts.site, "sharing", SHARED)
    for unit in install(render(facts), tmp_path / "root"):
        if unit.suffix == ".service":
            done = analyze(
                "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", "--no-pager", unit, units=unit.parent
            )
            assert done.returncode == 0, done.stdout[-200:]


@needs_systemd
@pytest.mark.slow
def test_the_times_are_what_was_asked_for(make_facts: MakeFacts, tmp_path: Path) -> None:
    units = install(render(make_facts(batch_time="23:45")), tmp_path / "root")
    for name, hour in (("build", "23:45:00"), ("check", "00:15:00")):
        text = (units[0].parent / f"site-{name}.timer").read_text()
        done = analyze("calendar", options(text, "OnCalendar")[0], units=units[0].parent)
        assert done.returncode == 0
        assert f" {hour} " in next(line for line in done.stdout.splitlines() if "Next elapse" in line)


def dumped(unit: str, units: Path) -> str:
    """The unit as the manager has read it. It makes no dump as root."""
    done = subprocess.run(
        [str(MANAGER), "--test", "--system", f"--unit={unit}"],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:", "SYSTEMD_LOG_LEVEL": "info"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        user=65534 if os.geteuid() == 0 else None,
        extra_groups=[] if os.geteuid() == 0 else None,
    )
    return done.stdout.split(f"-> Unit {unit}:", 1)[1].split("\n\t-> Unit ", 1)[0]


@pytest.mark.skipif(not MANAGER.exists(), reason="needs systemd: apt-get install systemd")
@pytest.mark.slow
def test_systemd_reads_an_awkward_path_as_it_is(make_facts: MakeFacts, open_path: Path) -> None:
    facts = make_facts(AWKWARD, root=open_path, of_store=True, app="shop:app")
    units = install(render(facts), open_path / "root")[0].parent
    dump = dumped("site.service", units)
    assert f"WorkingDirectory: {facts.directory}\n" in dump
    assert f"ReadWritePaths: -{facts.directory} -{facts.store}\n" in dump
    # The manager shows it as it would be written, with what is expanded at the start escaped.
    (command,) = re.findall(r"Command Line: (/bin/sh .*)", dump)
    assert run_as_systemd_does(command)[:5] == ["serve", "shop:app", "--store", str(facts.store), "--systemd"]


def run_as_systemd_does(command: str) -> list[str]:
    """What the program gets: the manager shows arguments as a shell has them, and ``$$`` is its one dollar."""
    words = [re.sub(r"\\([$`])", r"\1", word).replace("$$", "$") for word in shlex.split(command)]
    done = subprocess.run(words, capture_output=True, check=True, timeout=20)
    return done.stdout.decode().removesuffix("\0").split("\0")


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="needs systemd-tmpfiles: apt-get install systemd")
@pytest.mark.slow
def test_tmpfiles_makes_the_store_of_an_awkward_path(make_facts: MakeFacts, tmp_path: Path) -> None:
    facts = make_facts(AWKWARD, root=tmp_path, user=tmp_path.owner())
    write(render(facts), tmp_path / "root")
    shutil.rmtree(facts.store)
    done = subprocess.run(
        ["systemd-tmpfiles", "--create", str(tmp_path / "root/etc/tmpfiles.d/site.conf")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert facts.store.is_dir()
