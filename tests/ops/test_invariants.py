"""After a night: each thing that must be true is seen when it is not, and only then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from hotpath.batch.run import build
from hotpath.cli.commands import main
from hotpath.errors import BuildFailed, Implausible
from hotpath.ops.invariants import every_night, lines, problems
from hotpath.site import Hotpath
from hotpath.store.import_directory import import_directory
from hotpath.store.store import Store
from tests.ops.conftest import SmallSite
from tests.ops.local import Mailbox, mail_server, public_site

pytestmark = pytest.mark.usefixtures("items_in_this_process")


def wrong(site: Hotpath | Store, **options: float) -> list[str]:
    return problems(every_night(site, **options))  # type: ignore[arg-type]


def test_a_good_night_has_no_problem(site: SmallSite) -> None:
    night = every_night(site.hot)
    assert problems(night) == []
    assert [line[:5] for line in lines(night)] == ["ok   "] * 6
    assert wrong(site.hot.store) == []


def test_nothing_published(tmp_path: Path) -> None:
    found = wrong(Store(tmp_path / "hot"))
    assert "nothing is published" in found[0]
    assert "it never ran" in found[1]


def test_a_batch_that_did_not_run(site: SmallSite) -> None:
    site.hot.store.clock = lambda: 4e9
    found = wrong(site.hot)
    assert found[0].startswith("the batch ran in the last 26 h: it ran ")
    assert "12 items past their lifetime" in found[1]
    assert len(found) == 2


def test_a_batch_that_failed(site: SmallSite) -> None:
    site.broken = RuntimeError("no database")
    with pytest.raises(BuildFailed):
        site.build()
    (found,) = wrong(site.hot)
    assert "its run failed: " in found


def test_items_that_keep_older_bytes(tmp_path: Path) -> None:
    hot, broken = Hotpath(tmp_path / "hot"), []

    @hot.route("/a/{n}", each={"n": [1, 2]})
    def page(n: int) -> list[int]:
        if n in broken:
            raise RuntimeError("gone")
        return [n]

    build(hot)
    broken.append(1)
    build(hot)
    (found,) = wrong(hot)
    assert "1 item failed and kept older bytes" in found


def test_a_generation_in_quarantine(site: SmallSite) -> None:
    for _ in range(3):
        site.build()
    site.rows = 2
    with pytest.raises(Implausible):
        site.build()
    found = wrong(site.hot)
    assert "its run quarantined" in found[0]
    assert "nothing waits in quarantine: generation 5" in found[1]
    assert "hotpath approve TARGET 5" in found[1]


def test_a_pin_that_holds_a_newer_generation_back(site: SmallSite) -> None:
    site.hot.store.pin(1)
    assert wrong(site.hot) == []
    site.bump = 1
    site.build()
    (found,) = wrong(site.hot)
    assert "generation 1 is pinned, and 2 waits behind it" in found


def test_a_damaged_file(site: SmallSite) -> None:
    path = next(site.hot.store.files_path(1).rglob("s3.json"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"x", b"y"))
    assert any(line.startswith("every file of the store is whole: ") for line in wrong(site.hot))


def test_a_full_disk(site: SmallSite) -> None:
    found = problems(every_night(site.hot, free_bytes=lambda _: 1000))
    assert found == [f"the disk has room for the next build: 1000 B are free, it needs {found[0].split('needs ')[1]}"]


def test_a_store_of_imports_goes_by_its_newest_generation(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "a.json").write_text("{}")
    store = Store(tmp_path / "hot")
    import_directory(store, tmp_path / "dist")
    assert wrong(store) == []
    store.clock = lambda: 4e9
    assert "it ran" in wrong(store)[0]


@pytest.fixture
def check(site: SmallSite, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("HOTPATH_ALERT_SITE", "test")

    def run(*options: str) -> tuple[int, str, str]:
        store = str(site.hot.store.root)
        with public_site(site.hot) as server:
            done = CliRunner().invoke(main, ["check", store, "--base-url", server.url, "--every-night", *options])
        return done.exit_code, done.stdout, done.stderr

    return run


def test_the_command_says_both(check: Callable[..., tuple[int, str, str]]) -> None:
    code, printed, _ = check()
    assert code == 0
    assert printed.startswith("ok    hot pages are served as they were published\n")
    assert printed.endswith("every answer is what was published\n")
    assert check("--quiet") == (0, "", "")
    facts = json.loads(check("--json")[1])
    assert facts["right"] is True
    assert [invariant["problem"] for invariant in facts["every_night"]] == [None] * 6


def test_the_command_fails_and_sends_mail_once(
    site: SmallSite, check: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.broken = RuntimeError("no database")
    with pytest.raises(BuildFailed):
        site.build()
    box = Mailbox()
    with mail_server(box) as port:
        for name, value in {
            "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port), "SMTP_TLS": "none",
            "MAIL_FROM": "site@example.org", "MAIL_TO": "me@example.org",
        }.items():  # fmt: skip
            monkeypatch.setenv(f"HOTPATH_ALERT_{name}", value)
        code, printed, _ = check("--alert", "--quiet")
        assert code == 1
        assert printed.startswith("the batch ran in the last 26 h: its run failed")
        assert len(printed.splitlines()) == 1
        check("--alert", "--quiet")
        assert len(box.mails) == 1
        site.broken = None
        site.build()
        assert check("--alert", "--quiet")[0] == 0
    failed, resolved = (mail.content or b"" for mail in box.mails)
    assert b"(night.wrong)" in failed
    assert b"everything that must be true after a night is" in resolved
