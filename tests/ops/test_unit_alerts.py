"""``hotpath alert failed UNIT``: what a unit printed last reaches people, also where the journal cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hotpath.cli.commands import main
from hotpath.ops.alerts.unit import last_lines
from tests.ops.local import Mailbox, mail_server


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program of this name that is found first; a test writes it."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "journalctl"


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_last_lines_of_the_unit_are_asked_for(journalctl: Path) -> None:
    script(journalctl, 'printf "%s\\n" "$@"')
    assert last_lines("site-build.service")[:2] == ["--unit=site-build.service", "--lines=20"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo 'no permission' >&2; exit 1", "the journal says nothing of it: no permission"),
        ("exit 0", "the journal says nothing of it"),
        ("exec sleep 5", "the journal cannot be read: "),
    ],
)
def test_a_journal_that_says_nothing_is_said(journalctl: Path, text: str, said: str) -> None:
    script(journalctl, text)
    # Short only where it is to run out: a busy machine takes its time to start a process.
    (line,) = last_lines("x.service", seconds=0.3 if "sleep" in text else 20.0)
    assert line.startswith(said)


def test_a_machine_without_a_journal_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (line,) = last_lines("x.service")
    assert line.startswith("the journal cannot be read: ")


def test_the_command_sends_it_each_time(journalctl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(journalctl, "echo 'Killed: out of memory'")
    box = Mailbox()
    with mail_server(box) as port:
        settings = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port), "SMTP_TLS": "none"}
        settings |= {"MAIL_FROM": "site@example.org", "MAIL_TO": "me@example.org", "SITE": "shop"}
        for name, value in settings.items():
            monkeypatch.setenv(f"HOTPATH_ALERT_{name}", value)
        for _ in range(2):
            done = CliRunner().invoke(main, ["alert", "failed", "site-build.service"])
            assert done.exit_code == 0, done.output
    first, second = (mail.content for mail in box.mails)
    assert b"hotpath shop: FAILED: site-build.service failed" in (first or b"")
    assert b"Killed: out of memory" in (second or b"")


@pytest.mark.parametrize("words", [("failed",), ("test", "site.service")])
def test_a_unit_belongs_to_failed_and_to_nothing_else(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, ["alert", *words])
    assert done.exit_code == 2
    assert "write 'hotpath alert test', or 'hotpath alert failed UNIT'" in done.output
