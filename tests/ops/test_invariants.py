"""After a night: each thing that must be true is seen when it is not, and only then."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from hotpath.batch.run import build
from hotpath.caching import Valkey, cached
from hotpath.cli.commands import main
from hotpath.errors import BuildFailed, Implausible
from hotpath.ops.invariants import every_night, lines, problems, shared_generations
from hotpath.site import Hotpath
from hotpath.store.import_directory import import_directory
from hotpath.store.origin.origin import Origin
from hotpath.store.sharing import Sharing
from hotpath.store.store import Store
from tests.caching.shared.conftest import Server, server, start_server
from tests.ops.conftest import SmallSite
from tests.ops.local import Mailbox, closed_port, mail_server, public_site

__all__ = ["server", "start_server"]

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


@contextmanager
def shared_values(url: str) -> Iterator[Valkey]:
    """A function that shares its values by the server at ``url``."""
    valkey = Valkey(url, prefix="test")

    @cached(ttl=60, shared=valkey, name="page")
    def page(n: int) -> int:
        return n

    yield valkey
    assert page  # alive until here: a server that no function uses is not looked at
    valkey.close()


def test_a_server_of_shared_values_that_does_not_answer(site: SmallSite) -> None:
    with shared_values(f"redis://:secret@127.0.0.1:{closed_port()}/0"):
        (problem,) = wrong(site.hot)
    assert problem.startswith("Valkey('redis://127.0.0.1:")
    assert "it does not answer (ConnectionError: " in problem
    assert "secret" not in problem
    assert wrong(site.hot) == []


@pytest.mark.slow
def test_the_command_names_a_server_without_a_bound(
    site: SmallSite, check: Callable[..., tuple[int, str, str]], server: Server
) -> None:
    with shared_values(server.url):
        code, printed, _ = check("--quiet")
        assert code == 1
        assert "write maxmemory 256mb; " in printed
        assert "write allkeys-lru" in printed
        with public_site(site.hot) as public:
            done = CliRunner().invoke(main, ["check", str(site.hot.store.root), "--base-url", public.url, "--quiet"])
        assert (done.exit_code, done.stdout) == (0, "")
        assert done.stderr.startswith("warning: Valkey('redis://127.0.0.1:")
        assert "write maxmemory 256mb" in done.stderr
        server.command("CONFIG", "SET", "maxmemory", "64mb")
        server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert check("--quiet") == (0, "", "")


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


def named(site: Hotpath | Store, sharing: Sharing) -> dict[str, str | None]:
    """What is said of an origin, by its name."""
    store = site.store if isinstance(site, Hotpath) else site
    return {each.name: each.problem for each in shared_generations(store, sharing)}


def test_a_machine_that_does_not_serve_what_its_origin_names(site: SmallSite, tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    sharing = Sharing(f"file://{tmp_path}/origin")
    origin = Origin(f"file://{tmp_path}/origin")
    serves = "this machine serves what the origin names"
    assert named(site.hot, sharing)[serves] == "it serves generation 1, and the origin has nothing"
    origin.send(site.hot.store)
    assert named(site.hot, sharing) == {"the origin can be read": None, serves: None}
    assert named(Store(tmp_path / "new"), sharing)[serves] == "it serves nothing, and the origin has generation 1"
    assert len(every_night(site.hot, sharing=sharing)) == 8
    assert named(site.hot, Sharing()) == {}


def test_an_origin_or_hints_that_do_not_answer(site: SmallSite, tmp_path: Path) -> None:
    gone = named(site.hot, Sharing(f"file://{tmp_path}/gone"))
    assert list(gone) == ["the origin can be read"]
    assert "there is no such directory" in (gone["the origin can be read"] or "")
    (tmp_path / "origin").mkdir()
    port = closed_port()
    found = named(site.hot, Sharing(f"file://{tmp_path}/origin", f"redis://user:hush@127.0.0.1:{port}/0"))
    name = f"hints get through redis://127.0.0.1:{port}/0"
    assert "ConnectionError" in (found[name] or "")
    assert "hush" not in str(found)


@pytest.mark.slow
def test_hints_of_a_user_without_the_right_to_send_them(
    site: SmallSite, tmp_path: Path, start_server: Callable[..., Server]
) -> None:
    (tmp_path / "origin").mkdir()
    server = start_server("--user", "reader", "on", ">hush", "+@all", "-publish", "~*", "&*")
    host = server.url.removeprefix("redis://").replace("/0", "")
    origin = f"file://{tmp_path}/origin"
    for url, problem in (
        (f"redis://reader:hush@{host}/0", "the user needs PUBLISH and SUBSCRIBE on the channel"),
        (f"redis://reader:wrong@{host}/0", "user or password is wrong or missing"),
        (f"redis://{host}/99", "its databases are numbered 0 to 15"),
    ):
        found = named(site.hot, Sharing(origin, url))
        assert problem in str(found)
        assert "hush" not in str(found)
        assert "wrong@" not in str(found)
    assert list(named(site.hot, Sharing(origin, server.url)).values())[-1] is None
