"""Row 12: links, FIFOs and hard links planted anywhere, ``..`` in keys and files: refused, nothing outside touched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hotpath.batch.run import build
from hotpath.errors import DeclarationError, HotpathError, UnsafePath
from hotpath.site import Hotpath
from hotpath.store.import_directory import import_directory
from hotpath.store.publish import staging
from hotpath.store.repair import repair
from hotpath.store.store import Store
from hotpath.store.verify import verify
from tests.store.faults.planting import COMMANDS, KINDS, PLACES, SECONDS
from tests.store.faults.sites import APP_STATUS, POLICY, Calls, get, publish, rewrite_manifest, site_of

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Outcome:
    """What came of one command on a store with one thing planted."""

    place: str
    command: str
    error: str
    told: str
    refused: bool
    changed: list[str]

    def __str__(self) -> str:
        return f"{self.command} with {self.place}: {self.error or 'done'}: {self.told} {self.changed}"


def plant(kind: str, directory: Path, *commands: str) -> list[Outcome]:
    """Run these commands with this planted at every place, in a process of its own; a hang names its case."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.store.faults.planting", kind, str(directory), *commands],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS * 20,
    )
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert found.returncode == 0, f"{found.returncode} at {lines[-1:]}: {found.stderr[-2000:]}"
    assert len(lines) == 2 * len(PLACES) * len(commands)
    return [Outcome(**case, **outcome) for case, outcome in zip(lines[::2], lines[1::2], strict=True)]


# What the first and only thing a writer does with it is, or what every reader would follow.
NEVER_ACCEPTED = {"lock": set(KINDS), "generations": set(KINDS), "quarantine": {k for k in KINDS if "link to" in k}}


# A few with every run of the tests.
QUICK = ("hard link",)


def check(kind: str, outcomes: list[Outcome], record: Callable[[str, object], None]) -> None:
    record("cases", len(outcomes))
    print(f"{kind}: {len(outcomes)} cases, {sum(outcome.refused for outcome in outcomes)} refused")
    touched = [str(outcome) for outcome in outcomes if outcome.changed]
    assert not touched, "something outside was changed\n" + "\n".join(touched)
    broken = [str(outcome) for outcome in outcomes if outcome.error and not outcome.refused]
    assert not broken, "neither done nor refused\n" + "\n".join(broken)
    accepted = [
        str(outcome)
        for outcome in outcomes
        if outcome.command == "publish" and kind in NEVER_ACCEPTED.get(outcome.place, ()) and not outcome.refused
    ]
    assert not accepted, "accepted\n" + "\n".join(accepted)
    assert all(outcome.place.split("/")[0] in outcome.told for outcome in outcomes if outcome.error == "UnsafePath")


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_a_publish_with_something_planted_anywhere(
    kind: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    check(kind, plant(kind, tmp_path, "publish"), record_property)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_other_command_with_something_planted_anywhere(
    kind: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    others = [command for command in COMMANDS if command != "publish"]
    check(kind, plant(kind, tmp_path, *others), record_property)


def test_a_generation_that_is_a_link_is_pruned_without_following_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    store = Store(tmp_path / "hot", keep=1)
    publish(store, a=b"[1]")
    (store.generations_path / "0").symlink_to(outside)
    publish(store, a=b"[2]")
    assert (outside / "precious").read_text() == "precious"


def test_a_repair_does_not_follow_a_link_out_of_the_store(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.json").write_text("precious")
    store = Store(tmp_path / "hot")
    for _ in range(2):
        publish(store, a=b"[1]", b=b"[1]")
    files = store.files_path(2)
    for path in files.iterdir():
        path.unlink()
    files.rmdir()
    files.symlink_to(outside)
    assert not repair(store).is_sound
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("a.json", "precious")]


def test_a_fifo_for_an_item_is_answered_by_the_generation_before(tmp_path: Path) -> None:
    store = Store(tmp_path / "hot")
    publish(store, a=b"[1]")
    publish(store, a=b"[2]")
    item = store.files_path(2) / "a.json"
    item.unlink()
    os.mkfifo(item)
    answer = get(site_of(store), "/a")
    assert (answer.status, answer.body, answer.header("x-hotpath-generation")) == (200, b"[1]", "1")
    assert [(damage.key, damage.problem) for damage in verify(store).damages] == [("/a", "this is not a regular file")]


# ``..`` and the like, at each place where a name comes in.

ESCAPES = ["../x", "../../x", "a/../../x", "/x", "..", ".", "", "a//b", "a/"]


STAGE = """
import resource, sys
from pathlib import Path
from hotpath.errors import HotpathError
from hotpath.store.publish import staging
from hotpath.store import Store
from tests.store.faults.sites import POLICY

resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
for file in sys.argv[2:]:
    print(repr(file), flush=True)
    try:
        with staging(Store(Path(sys.argv[1]) / "hot")) as stage:
            stage.add("/a", file, b"[1]", POLICY)
    except HotpathError as error:
        print("refused:", error, flush=True)
    else:
        print("accepted", flush=True)
"""


def test_a_file_name_that_leaves_the_generation_is_refused_by_the_stage(tmp_path: Path) -> None:
    """In a process of its own: it may neither write outside nor look for the parent of / for ever."""
    found = subprocess.run(
        [sys.executable, "-c", STAGE, str(tmp_path), *ESCAPES],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    lines = found.stdout.splitlines()
    assert (found.returncode, found.stderr) == (0, ""), lines[-1:]
    for name, told in zip(lines[::2], lines[1::2], strict=True):
        assert told.startswith("refused:"), name
        assert name in told, "it says which name"
    assert len(lines) == 2 * len(ESCAPES)
    assert [path.name for path in tmp_path.iterdir()] == ["hot"]
    assert not list((tmp_path / "hot").rglob("x*"))


@pytest.mark.parametrize("value", ["..", ".", "a/../b", "a/b", "a\0b", ""])
def test_a_value_that_is_no_segment_is_refused_before_a_function_is_run(tmp_path: Path, value: str) -> None:
    hot = Hotpath(tmp_path / "hot")
    ran = Calls()

    @hot.route("/p/{name}", each={"name": [value]})
    def page(name: str) -> list[str]:
        ran.add()
        return [name]

    with pytest.raises(DeclarationError, match=f"name={re.escape(repr(value))}"):
        build(hot)
    assert (len(ran), list(tmp_path.iterdir())) == (0, [])


@pytest.mark.parametrize("file", ["../{name}.json", "/{name}.json", "a/../{name}", "{name}/../../x"])
def test_a_file_template_that_leaves_the_generation_is_refused_when_declared(tmp_path: Path, file: str) -> None:
    hot = Hotpath(tmp_path / "hot")
    with pytest.raises(DeclarationError, match="could leave the generation"):
        hot.route("/p/{name}", each={"name": ["a"]}, file=file)(lambda name: [name])


def test_an_imported_directory_with_links_out_of_it_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "secret.json").write_text('"secret"')
    (source / "a.json").symlink_to("../secret.json")
    os.mkfifo(source / "b.json")
    (source / "c").symlink_to("..")
    with pytest.raises(HotpathError) as caught:
        import_directory(Store(tmp_path / "hot"), source)
    assert [name in str(caught.value) for name in ("a.json", "b.json", "c: is a link")] == [True] * 3
    assert not Store(tmp_path / "hot").sequences()


@pytest.mark.parametrize("absolute", [True, False])
def test_a_manifest_that_names_a_file_outside_is_not_believed(tmp_path: Path, absolute: bool) -> None:
    """Neither read nor, by a repair, written: not even where the digest is right."""
    secret = tmp_path / "secret.json"
    secret.write_bytes(b'["secret"]')
    store = Store(tmp_path / "hot")
    publish(store, a=b"[1]")
    publish(store, a=b'["secret"]')
    name = str(secret) if absolute else "../../../../secret.json"
    rewrite_manifest(store, 2, lambda text: text.replace(b'"a.json"', b'"%s"' % name.encode()))
    hot = site_of(store)
    answer = get(hot, "/a")
    assert (answer.status, answer.body) in ((200, b"[1]"), (APP_STATUS, b"the app")), "what is outside was served"
    assert not verify(store).is_sound
    secret.write_bytes(b"precious")
    repair(store)
    assert secret.read_bytes() == b"precious"


def test_what_is_planted_is_named_with_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path / "hot")
    publish(store, a=b"[1]")
    for name, kind in (("lock", "link to nothing"), ("lock", "FIFO"), ("generations", "link to nothing")):
        path = store.root / name
        path.rename(tmp_path / "aside")
        KINDS[kind](path, tmp_path)
        with pytest.raises(UnsafePath, match=f"{name}: .*remove it") as caught, staging(store) as stage:
            stage.add("/a", "a.json", b"[2]", POLICY)
        assert caught.value.path == path
        path.unlink()
        (tmp_path / "aside").rename(path)
    assert publish(store, a=b"[2]").generation == 2
