"""Commands of a site on several machines: what is done at the origin, what is printed, and the exit codes."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from hotpath.store.origin.origin import Origin
from hotpath.store.store import Store
from tests.cli.test_commands import Result, hotpath
from tests.cli.test_failures import People, people
from tests.store.origin.fake import FakeObjects

__all__ = ["people"]

APP = """
from hotpath.site import Hotpath
hot = Hotpath("var/hot"{options})

@hot.route("/a/{{n}}", each={{"n": list(map(str, range({pages})))}})
def a(n):
    return {{"n": n}}
"""


class Site:
    """A directory with an app, and machines that follow: a store beside it each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"file://{directory}/origin"
        (directory / "origin").mkdir()
        self.write()

    def write(self, options: str = "", pages: int = 2) -> None:
        (self.directory / "myapp.py").write_text(APP.format(options=options, pages=pages))

    def run(self, *arguments: str, code: int = 0) -> Result:
        result = hotpath(self.directory, *arguments)
        assert result.code == code, (result.out, result.err)
        return result

    def build(self, *arguments: str, code: int = 0) -> Result:
        return self.run("build", "myapp:hot", "--quiet", *arguments, code=code)

    def follow(self, machine: str, *arguments: str, code: int = 0) -> Result:
        return self.run("follow", machine, "--origin", self.url, "--once", "--name", machine, *arguments, code=code)

    def served(self, machine: str = "var/hot") -> int:
        return Store(self.directory / machine).chosen_sequence()

    def chosen(self) -> int | None:
        pointer = Origin(self.url).begin().state.chosen
        return pointer.sequence if pointer is not None else None


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name in ("HOTPATH_ORIGIN", "HOTPATH_HINTS", "HOTPATH_NAME"):
        monkeypatch.delenv(name, raising=False)
    return Site(tmp_path)


@pytest.fixture
def shared(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("HOTPATH_ORIGIN", site.url)
    return site


def down(monkeypatch: pytest.MonkeyPatch) -> str:
    """An origin that does not answer, from now on; its URL."""
    objects = FakeObjects()
    objects.is_down = True
    monkeypatch.setattr("hotpath.store.origin.obstore_objects.ObstoreObjects", lambda url: objects)
    monkeypatch.setattr("hotpath.store.origin.objects.ATTEMPTS", 1)
    return objects.url


def test_a_build_publishes_here_and_sends(site: Site) -> None:
    result = site.run("build", "myapp:hot", "--origin", site.url)
    assert re.fullmatch(
        rf"published generation 1 to .*\nsent generation 1 to {site.url}: 2 new files, 18 B\n", result.out
    )
    assert "sending 2 new files, 18 B\n" in result.err
    assert site.chosen() == 1
    assert site.follow("web").out == "generation 1 is served: 2 files (18 B) fetched, 0 were here\n"
    assert site.served("web") == 1
    assert site.follow("web").out == "generation 1 is served, as the origin says\n"


@pytest.mark.slow
def test_the_object_of_a_build_says_what_was_sent(site: Site) -> None:
    facts = json.loads(site.build("--origin", site.url, "--json").out)
    assert facts["origin"] == {
        "url": site.url, "generation": 1, "already": False, "blobs": 2, "bytes": facts["bytes"],
        "problem": None, "site_copy": None,
    }  # fmt: skip
    assert "origin" not in json.loads(site.build("--origin", "off", "--json").out)


@pytest.mark.slow
def test_a_build_on_another_machine_goes_on_from_what_was_accepted(shared: Site) -> None:
    shared.build()
    shared.build()
    shared.write()
    (shared.directory / "myapp.py").write_text((shared.directory / "myapp.py").read_text().replace("var/hot", "other"))
    result = shared.build("--json")
    assert json.loads(result.out)["generation"] == 3
    assert shared.chosen() == 3


@pytest.mark.slow
def test_the_loser_of_a_race_ends_with_75_and_one_line(shared: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    shared.build()
    shared.follow("other")
    send = Origin.send

    def second(origin: Origin, *arguments: Any) -> Any:
        monkeypatch.undo()
        shared.build("--origin", "off")
        send(origin, Store(shared.directory / "var/hot"))
        return send(origin, *arguments)

    (shared.directory / "another.py").write_text(
        (shared.directory / "myapp.py").read_text().replace("var/hot", "other").replace('"n": n', '"n": 7')
    )
    monkeypatch.setattr(Origin, "send", second)
    result = shared.run("build", "another:hot", "--quiet", "--origin", shared.url, code=75)
    assert result.err.count("\n") <= 2
    assert "another machine was first; generation 2 of this one was not accepted; build again" in result.err
    assert (shared.chosen(), shared.served("other")) == (2, 2)
    monkeypatch.undo()
    monkeypatch.setenv("HOTPATH_ORIGIN", shared.url)
    shared.run("build", "another:hot", "--quiet")
    assert (shared.chosen(), shared.served("other")) == (3, 3)


def test_an_origin_that_is_gone_ends_a_build_with_69_and_what_to_run(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        result = site.build("--origin", down(patch), code=69)
        facts = site.build("--origin", down(patch), "--json", code=69)
    assert site.served() == 2
    assert result.err.splitlines()[-1] == (
        "hotpath: generation 1 is published on this machine and was not sent, so no other machine serves it:"
        " s3://bucket/site: get CURRENT: no answer; then run 'hotpath push myapp:hot', or the build again"
    )
    assert json.loads(facts.out)["origin"]["problem"].startswith("generation 2 is published on this machine")
    pushed = site.run("push", "myapp:hot", "--origin", site.url)
    assert pushed.out == f"sent generation 2 to {site.url}: 2 new files, 18 B\n"
    assert site.run("push", "myapp:hot", "--origin", site.url).out == f"generation 2 is at {site.url} already\n"


@pytest.mark.slow
def test_the_same_build_again_sends_what_was_not_sent_also_with_nothing_to_do(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        site.build("--origin", down(patch), code=69)
        site.run("build", "myapp:hot", "--retry-failed", "--origin", down(patch), code=69)
    result = site.run("build", "myapp:hot", "--retry-failed", "--origin", site.url)
    assert result.out.splitlines() == [
        "nothing failed in the last run, so nothing is retried and nothing published",
        f"sent generation 1 to {site.url}: 2 new files, 18 B",
    ]
    assert site.chosen() == 1


@pytest.mark.slow
def test_a_wrong_address_ends_a_build_before_it_begins(site: Site) -> None:
    for arguments in (("--origin", "bucket/site"), ("--origin", site.url, "--hints", "localhost")):
        assert site.build(*arguments, code=2).err.count("\n") == 1
    site.write(options=', origin="s3://key:hush@bucket/site"')
    assert "hush" not in site.build(code=2).err
    assert not (site.directory / "var").exists()


@pytest.mark.slow
def test_an_import_is_sent_too(shared: Site) -> None:
    (shared.directory / "dist").mkdir()
    (shared.directory / "dist" / "a.json").write_text("[1]")
    result = shared.run("import", "var/imported", "dist")
    assert result.out.splitlines()[1] == f"sent generation 1 to {shared.url}: 1 new file, 3 B"
    assert shared.chosen() == 1


@pytest.mark.slow
def test_a_change_on_any_machine_is_made_at_the_origin_and_all_follow(shared: Site) -> None:
    for _ in range(3):
        shared.build()
    shared.follow("web")
    shared.follow("web-2")
    result = shared.run("rollback", "web", "--reason", "wrong prices")
    assert result.out.splitlines() == [
        f"rolled back from generation 3 to 2 at {shared.url}; every machine follows when it asks next",
        "generation 2 is pinned: builds publish beside it until 'hotpath unpin web'",
    ]
    assert (shared.chosen(), shared.served("web"), shared.served("web-2")) == (2, 2, 3)
    assert f"following {shared.url}, which has generation 2" in shared.run("status", "web").out
    shared.follow("web-2")
    assert shared.served("web-2") == 2
    assert json.loads(shared.run("rollback", "web", "--to", "1", "--json").out)["origin"] == shared.url
    shared.run("unpin", "web-2")
    assert shared.run("unpin", "web-2").out == f"nothing was pinned at {shared.url}\n"
    shared.run("pin", "web-2", "1")
    assert shared.run("unpin", "myapp:hot").out == (
        f"generation 1 is no longer pinned at {shared.url}; it stays served, as no newer one is accepted\n"
    )
    assert "there is no generation 9" in shared.run("pin", "web", "9", code=1).err


@pytest.mark.slow
def test_off_changes_this_machine_alone_and_says_what_becomes_of_it(shared: Site) -> None:
    shared.build()
    shared.follow("web")
    shared.build()
    shared.follow("web")
    result = shared.run("rollback", "web", "--origin", "off")
    assert result.err == (f"warning: this machine follows {shared.url}, which undoes this at its next change\n")
    assert (shared.chosen(), shared.served("web")) == (2, 1)
    assert shared.run("rollback", "myapp:hot", "--origin", "off").err == ""


@pytest.mark.slow
def test_what_follows_by_a_service_is_known_where_no_address_is(shared: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    shared.build()
    shared.follow("web")
    shared.build()
    shared.follow("web")
    monkeypatch.delenv("HOTPATH_ORIGIN")
    assert f"; write --origin {shared.url} to change it there" in shared.run("rollback", "web").err


@pytest.mark.slow
def test_a_generation_in_quarantine_is_approved_on_any_machine(shared: Site) -> None:
    shared.write(pages=40)
    for _ in range(3):
        shared.build()
    shared.follow("web")
    shared.write(pages=10)
    assert "is not plausible" in shared.build(code=1).err
    assert shared.run("status", "web", "--origin").out.splitlines()[2] == (
        "  4 in quarantine; if it is right after all: 'hotpath approve TARGET 4 --reason …'"
    )
    result = shared.run("approve", "web", "4", "--reason", "a holiday")
    assert result.out == (
        f"generation 4 is approved and current at {shared.url}; every machine follows when it asks next\n"
    )
    assert (shared.chosen(), shared.served("web"), shared.served()) == (4, 4, 3)


@pytest.mark.slow
def test_a_generation_is_approved_where_it_was_built(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write(pages=40)
    for _ in range(3):
        site.build("--origin", site.url)
    site.write(pages=10)
    with monkeypatch.context() as patch:
        refused = site.build("--origin", down(patch), code=1)
    assert "warning: generation 4 can be approved on this machine alone" in refused.err
    site.run("approve", "myapp:hot", "4", "--reason", "a holiday", "--origin", site.url)
    assert (site.chosen(), site.served()) == (4, 4)
    assert Store(site.directory / "var/hot").quarantined() == []
    assert site.follow("var/hot").out == "generation 4 is served, as the origin says\n"


@pytest.mark.slow
def test_verify_and_prune_are_of_this_machine_unless_the_origin_is_named(shared: Site) -> None:
    shared.build()
    (shared.directory / "myapp.py").write_text((shared.directory / "myapp.py").read_text().replace('"n": n', '"m": n'))
    shared.build()
    blob = next((shared.directory / "origin" / "blobs").glob("*/*"))
    data = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(b"rotten")
    assert shared.run("verify", "var/hot").out
    problem = shared.run("verify", "var/hot", "--origin", code=1)
    assert blob.name in problem.out
    repaired = json.loads(shared.run("verify", "var/hot", "--repair", "--json", "--origin").out)
    assert repaired["repaired"] == [f"blobs/{blob.parent.name}/{blob.name}"]
    assert blob.read_bytes() == data
    assert shared.run("verify", "var/hot", "--origin").out.endswith("4 files: all whole\n")
    assert shared.run("prune", "var/hot", "--keep", "1").out == "removed generation 1\n"
    assert shared.run("prune", "var/hot", "--keep", "1", "--origin").out == f"removed nothing from {shared.url}\n"
    out = shared.run("prune", "var/hot", "--keep", "1", "--grace", "0s", "--origin").out
    assert re.fullmatch(rf"removed generation 1 and \d+ files? \(.+ B\) from {re.escape(shared.url)}\n", out), out


@pytest.mark.slow
def test_status_says_what_this_machine_and_the_others_serve(shared: Site) -> None:
    shared.build()
    shared.follow("web")
    shared.follow("web-2")
    shared.build()
    shared.follow("web")
    assert shared.run("status", "web").out.splitlines()[2] == f"following {shared.url}, which has generation 2"
    machines = shared.run("status", "web", "--origin").out.splitlines()
    assert machines[:2] == [f"origin {shared.url}", "generation 2"]
    assert [line.split()[:2] for line in machines[2:]] == [["web", "2"], ["web-2", "1"]]
    assert [line.endswith(" ago  BEHIND") for line in machines[2:]] == [False, True]
    facts = json.loads(shared.run("status", "web", "--json", "--origin").out)
    assert [(machine["name"], machine["behind"], machine["silent"]) for machine in facts["machines"]] == [
        ("web", False, False),
        ("web-2", True, False),
    ]
    facts = json.loads(shared.run("status", "web", "--json").out)
    assert facts["origin"] == {
        "url": shared.url, "generation": 2, "lag_seconds": 0, "age_seconds": facts["origin"]["age_seconds"],
        "silent": False, "ahead": False, "error": None,
    }  # fmt: skip
    assert json.loads(shared.run("status", "myapp:hot", "--json").out)["origin"] is None


@pytest.mark.slow
def test_status_says_that_nothing_follows_any_more_and_what_was_not_sent(shared: Site) -> None:
    shared.build()
    shared.build("--origin", "off")
    ahead = shared.follow("var/hot")
    assert ahead.out == ("generation 2 of this machine is served, the origin has 1: 'hotpath push' sends it\n")
    assert "what is served here was not sent there: 'hotpath push TARGET'" in shared.run("status", "var/hot").out
    record = shared.directory / "var/hot/origin.json"
    facts = json.loads(record.read_bytes())
    record.chmod(0o600)
    record.write_text(json.dumps(facts | {"time": facts["time"] - 7200}))
    assert f"NOT FOLLOWING {shared.url}: the last look was 2 h ago" in shared.run("status", "var/hot").out


@pytest.mark.slow
def test_a_look_that_fails_ends_with_69_and_leaves_what_is_served(
    shared: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.build()
    shared.follow("web")
    with monkeypatch.context() as patch:
        url = down(patch)
        result = shared.run("follow", "web", "--once", "--origin", url, code=69)
        facts = json.loads(shared.run("follow", "web", "--once", "--json", "--origin", url, code=69).out)
    assert result.err == "hotpath: s3://bucket/site: get CURRENT: no answer\n"
    assert (facts["generation"], facts["error"]) == (1, "s3://bucket/site: get CURRENT: no answer")
    assert "BEHIND its origin for " in shared.run("status", "web").out
    assert shared.served("web") == 1


@pytest.mark.slow
def test_a_store_that_is_being_written_ends_a_look_with_75(shared: Site) -> None:
    shared.build()
    with Store(shared.directory / "web").locked():
        assert "another process is changing this store" in shared.follow("web", code=75).err


def test_an_empty_origin_is_followed(site: Site) -> None:
    assert site.follow("web").out == f"nothing is published at {site.url} yet\n"


def test_without_an_origin_nothing_is_followed_or_pushed(site: Site) -> None:
    site.build()
    for command in ("follow", "push"):
        assert "there is no origin" in site.run(command, "var/hot", code=2).err
    assert "no such directory" in site.run("push", "elsewhere", "--origin", site.url, code=2).err


@pytest.mark.slow
def test_a_recovery_goes_back_at_the_origin_and_sends_what_it_builds(shared: Site) -> None:
    shared.build()
    refused = shared.run("recover", "myapp:hot", "--rollback", code=2)
    assert "run 'hotpath rollback myapp:hot', and recover without --rollback" in refused.err
    assert f"sent generation 2 to {shared.url}" in shared.run("recover", "myapp:hot", "--build").out
    assert shared.chosen() == 2


@pytest.mark.slow
def test_the_error_that_an_engine_makes_is_one_line_for_each_command(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.build()
    url = down(monkeypatch)
    for arguments in (
        ("rollback", "var/hot"),
        ("pin", "var/hot", "1"),
        ("unpin", "var/hot"),
        ("approve", "var/hot", "1", "--reason", "r"),
        ("verify", "var/hot"),
        ("prune", "var/hot"),
        ("status", "var/hot"),
    ):
        result = site.run(*arguments, "--origin", url, code=75)
        assert (result.out, result.err) == ("", "hotpath: s3://bucket/site: get CURRENT: no answer\n")
    assert site.served() == 1


@pytest.mark.slow
def test_people_hear_once_that_a_generation_was_not_sent_and_that_it_was_later(
    site: Site, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with monkeypatch.context() as patch:
            site.build("--alert", "--origin", down(patch), code=69)
    assert people.kinds == ["origin.error"]
    assert people.pings[-1] == "/ping/fail"
    site.build("--alert", "--origin", site.url)
    assert people.kinds == ["origin.error"] * 2
    assert people.pings[-1] == "/ping"


@pytest.mark.slow
def test_a_generation_that_cannot_be_read_or_sent_is_named_also_behind_a_pin(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.build("--origin", site.url)
    site.run("pin", "var/hot", "1")

    def full(*arguments: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/var/hot/a.json")

    with monkeypatch.context() as patch:
        patch.setattr(Origin, "send", full)
        result = site.build("--origin", site.url, code=69)
    assert "generation 2 is published on this machine and was not sent" in result.err
    assert "the disk reported an error" in result.err

    def interrupt(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    with monkeypatch.context() as patch:
        patch.setattr(Origin, "send", interrupt)
        result = site.build("--origin", site.url, code=130)
    assert "warning: generation 3 is published on this machine; 'hotpath push myapp:hot' sends it" in result.err
    (site.directory / "empty").mkdir()
    assert "nothing is published here yet" in site.run("push", "empty", "--origin", site.url, code=1).err
