"""A crontab that Debian's cron takes and runs, whatever is in the path of the site."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hotpath.errors import DeclarationError
from hotpath.ops.render import logrotate
from hotpath.ops.render.cron import render
from hotpath.ops.render.files import write
from tests.ops.render.conftest import AWKWARD, MakeFacts

CRON = shutil.which("cron", path="/usr/sbin:/sbin")
# A job begins at a full minute.
CRON_SECONDS = 75.0


def jobs(text: str) -> list[str]:
    return [line for line in text.splitlines() if line[:1] in "0123456789*" and line]


def test_batch_check_and_memory(make_facts: MakeFacts) -> None:
    crontab, rotation = render(make_facts(mail="me@example.org", base_url="https://example.com", batch_time="02:05"))
    assert (crontab.path, rotation.path) == ("etc/cron.d/site", "etc/logrotate.d/site")
    build, check, memory = jobs(crontab.text)
    assert build.startswith("5 2 * * *  nobody  ")
    assert build.endswith("hotpath build shop:hot --memory 250MiB --timeout 2m --quiet")
    assert check.startswith("35 2 * * *  nobody  ")
    assert check.endswith("hotpath check shop:hot --base-url https://example.com --every-night --quiet")
    assert memory.startswith("*/5 * * * *  root  ")
    assert "\nMAILTO=me@example.org\n" in crontab.text


def test_the_rotation_is_the_same_file_as_logrotate_alone(make_facts: MakeFacts) -> None:
    command = "hotpath render {} shop:hot --name cron"
    crontab, rotation = render(make_facts(name="cron", command=command.format("cron")))
    assert crontab.text.startswith("# Made by 'hotpath render cron shop:hot --name cron': ")
    (alone,) = logrotate.render(make_facts(name="cron", command=command.format("logrotate")))
    assert rotation == alone


def test_a_store_alone_is_only_checked(make_facts: MakeFacts) -> None:
    facts = make_facts(of_store=True)
    check, _ = jobs(render(facts)[0].text)
    assert f"hotpath check {facts.store} --base-url" in check


@pytest.mark.parametrize("directory", ["a\nb", "a" * 200 + "/" + "b" * 200 + "/" + "c" * 200])
def test_what_cron_cannot_hold_is_refused(make_facts: MakeFacts, directory: str) -> None:
    with pytest.raises(DeclarationError, match="cron"):
        render(make_facts(directory))


def can_mount() -> bool:
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


@pytest.mark.skipif(CRON is None, reason="needs Debian's cron: apt-get install cron")
@pytest.mark.skipif(not can_mount(), reason="needs root and a mount namespace")
@pytest.mark.slow
def test_cron_runs_it_once_and_mails_what_it_printed(make_facts: MakeFacts, open_path: Path) -> None:
    assert CRON is not None
    # The file must be there before the minute begins.
    soon = datetime.now().astimezone() + timedelta(seconds=65 if datetime.now().astimezone().second > 50 else 60)
    facts = make_facts(AWKWARD, root=open_path, mail="me@example.org", batch_time=f"{soon:%H:%M}")
    facts.hotpath.write_text("#!/bin/sh\nid -un\npwd\nprintf '%s\\n' \"$@\"\n")
    write(render(facts), open_path / "root")
    for name in ("spool/crontabs", "run", "sbin"):
        (open_path / name).mkdir(parents=True)
    mails = open_path / "mails"
    mails.mkdir(mode=0o777)
    mails.chmod(0o777)
    shutil.copy(CRON, open_path / "sbin" / "cron")
    sendmail = open_path / "sbin" / "sendmail"
    sendmail.write_text(f'#!/bin/sh\ncat > "{mails}/$$.new" && mv "{mails}/$$.new" "{mails}/$$"\n')
    sendmail.chmod(0o755)
    binds = {"root/etc/cron.d": "/etc/cron.d", "spool": "/var/spool/cron", "run": "/run", "sbin": "/usr/sbin"}
    mounts = " && ".join(f"mount --bind {source} {place}" for source, place in binds.items())
    start = f"mount --bind /dev/null /etc/crontab && {mounts} && exec /usr/sbin/cron -f"
    daemon = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", start],
        cwd=open_path,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + CRON_SECONDS
        while not (arrived := [path for path in mails.iterdir() if path.suffix == ""]) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert daemon.poll() is None
    finally:
        daemon.kill()
        daemon.communicate(timeout=10)
    assert len(arrived) == 1
    head, _, body = arrived[0].read_text().partition("\n\n")
    assert "To: me@example.org" in head
    user, place, *arguments = body.splitlines()
    assert (user, place) == ("nobody", str(facts.directory))
    assert arguments == ["build", "shop:hot", "--memory", "250MiB", "--timeout", "2m", "--quiet"]
