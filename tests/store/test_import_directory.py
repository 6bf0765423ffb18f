"""``hotpath import``: a directory of another program as one generation, or a refusal that names every file."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hotpath.batch.run import build
from hotpath.errors import HotpathError, Implausible, ImportRefused, ImportWouldDrop
from hotpath.site import Hotpath
from hotpath.store import import_directory as importing
from hotpath.store.import_directory import import_directory
from hotpath.store.manifest import Manifest
from hotpath.store.store import Store
from tests.store.faults.sites import get, run, site_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What a program in another language wrote."""
    source = tmp_path / "out"
    (source / "rankings").mkdir(parents=True)
    (source / "rankings" / "kospi.json").write_text('{"market":"kospi"}')
    (source / "index.html").write_text("<p>hello")
    (source / "robots.txt").write_text("User-agent: *\n")
    return source


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "hot")


def test_every_file_is_a_page(source: Path, store: Store) -> None:
    (source / "rankings" / "kospi.json.gz").write_bytes(b"made by somebody else")
    (source / "empty").mkdir()
    assert import_directory(store, source).items == 3
    hot = site_of(store)
    assert get(hot, "/rankings/kospi.json").body == b'{"market":"kospi"}'
    assert get(hot, "/").header("content-type") == "text/html; charset=utf-8"
    assert get(hot, "/robots.txt").status == 200
    assert get(hot, "/rankings/kospi.json.gz").status == 418


def test_what_is_packed_is_no_text_and_an_unknown_ending_no_json(source: Path, store: Store) -> None:
    """Without its neighbour a .gz is a file of its own, whose bytes are gzip and not what is in it."""
    (source / "style.css.gz").write_bytes(b"\x1f\x8b rest")
    (source / "rows.parquet").write_bytes(b"PAR1")
    (source / ".well-known").mkdir()
    (source / ".well-known" / "security.txt").write_text("Contact: mailto:a@example.org")
    import_directory(store, source)
    hot = site_of(store)
    packed = get(hot, "/style.css.gz")
    assert (packed.header("content-type"), packed.header("content-encoding")) == ("application/gzip", None)
    assert get(hot, "/rows.parquet").header("content-type") == "application/octet-stream"
    assert get(hot, "/.well-known/security.txt").status == 200


@pytest.mark.parametrize(
    ("name", "data", "media_type"),
    [
        ("v1.2/data", b"{}", "application/json"),
        (".well-known/apple-app-site-association", b"{}", "application/json"),
        ("logo.webp", b"RIFF", "image/webp"),
        ("text.woff2", b"wOF2", "font/woff2"),
        ("feed.rss", b"<rss/>", "application/rss+xml"),
        ("places.geojson", b"{}", "application/geo+json"),
        ("sitemap.xml.gz", b"\x1f\x8b", "application/gzip"),
        ("app.js.br", b"br", "application/octet-stream"),
        ("app.js.zst", b"zst", "application/zstd"),
    ],
)
def test_media_types_do_not_depend_on_the_machine(
    source: Path, store: Store, name: str, data: bytes, media_type: str
) -> None:
    """A packed file without its neighbour is a page of its own."""
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_bytes(data)
    imported = import_directory(store, source)
    answer = get(site_of(store), "/" + name)
    assert (answer.status, answer.body, answer.header("content-type")) == (200, data, media_type)
    assert answer.header("content-encoding") is None
    assert imported.precompressed == ()


def test_what_is_skipped_is_named(source: Path, store: Store) -> None:
    (source / "app.js").write_text("let a = 1")
    for ending in ("gz", "br", "zst"):
        (source / f"app.js.{ending}").write_bytes(b"packed")
    (source / "backup~").mkdir()
    (source / "backup~" / "old.html").write_text("<p>old")
    left = ["index.html~", ".index.html.swp", "rankings/#kospi.json#", ".DS_Store", "Thumbs.db", "a.tmp", "a.tmp.gz"]
    for name in left:
        (source / name).write_bytes(b"x")
    (source / ".#index.html").symlink_to("me@machine.1234")
    imported = import_directory(store, source)
    assert imported.items == 4
    assert [*store.read_manifest(1).items] == ["/", "/app.js", "/rankings/kospi.json", "/robots.txt"]
    assert imported.precompressed == ("app.js.br", "app.js.gz", "app.js.zst")
    assert sorted(imported.left_behind) == sorted([*left, "backup~", ".#index.html"])


def test_a_packed_sitemap_is_a_page_also_beside_the_plain_one(source: Path, store: Store) -> None:
    """Crawlers ask for it by its name; the coding that hotpath makes of the plain one is another file."""
    plain, packed = b"<urlset>" + b"<url/>" * 500 + b"</urlset>", b"\x1f\x8b made by somebody else"
    (source / "sitemap.xml").write_bytes(plain)
    for name in ("sitemap.xml.gz", "rankings/Sitemap-2.xml.gz"):
        (source / name).write_bytes(packed)
    (source / "rankings" / "Sitemap-2.xml").write_bytes(plain)
    imported = import_directory(store, source)
    assert (imported.items, imported.precompressed) == (7, ())
    hot = site_of(store)
    for name in ("/sitemap.xml.gz", "/rankings/Sitemap-2.xml.gz"):
        answer = get(hot, name)
        assert (answer.body, answer.header("content-type")) == (packed, "application/gzip")
    assert get(hot, "/sitemap.xml").body == plain
    assert import_directory(store, source).unchanged == 7


def test_precompressed_files_are_pages_where_that_is_asked_for(source: Path, store: Store) -> None:
    (source / "rows.csv").write_text("a,b\n" * 500)
    (source / "rows.csv.gz").write_bytes(b"\x1f\x8b rows")
    assert import_directory(store, source).precompressed == ("rows.csv.gz",)
    assert get(site_of(store), "/rows.csv.gz").status == 418
    imported = import_directory(store, source, keep_precompressed=True)
    assert (imported.items, imported.precompressed) == (5, ())
    assert get(site_of(store), "/rows.csv.gz").body == b"\x1f\x8b rows"


def test_a_directory_of_files_to_skip_publishes_nothing(tmp_path: Path, store: Store) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "page.html~").write_text("x")
    with pytest.raises(HotpathError, match="holds no files but 1 file to skip, so there is nothing to publish"):
        import_directory(store, tmp_path / "out")


def _built(store: Store) -> Hotpath:
    hot = Hotpath(store.root)
    hot.route("/page/{number}", each={"number": range(5)})(lambda number: {"number": number})
    hot.route("/robots.txt")(lambda: "User-agent: *\n")
    return hot


def test_an_import_does_not_drop_what_a_build_made(source: Path, store: Store) -> None:
    hot = _built(store)
    build(hot)
    told = r"generation 1 was made by a build: of its 6 pages, 5 would go, .* write --replace \(replace=True\)"
    with pytest.raises(ImportWouldDrop, match=told) as refused:
        import_directory(store, source)
    assert (refused.value.sequence, refused.value.pages) == (1, 5)
    assert (store.sequences(), store.quarantined()) == ([1], [])
    assert import_directory(store, source, replace=True).items == 3
    assert import_directory(store, source).items == 3, "from then on the store is that of imports"


def test_a_build_into_an_imported_store_says_what_it_replaces(source: Path, store: Store) -> None:
    import_directory(store, source)
    report = build(_built(store))
    assert [warning for warning in report.warnings if "generation 1 was imported, and its 3 pages" in warning]
    with pytest.raises(ImportWouldDrop, match="was made by a build"):
        import_directory(store, source)


def test_pages_that_a_rollback_marked_bad_are_not_asked_about(source: Path, store: Store) -> None:
    import_directory(store, source)
    build(_built(store))
    store.rollback(pin=False)
    assert import_directory(store, source).items == 3


def test_a_directory_that_lost_most_of_its_files_is_refused(source: Path, store: Store) -> None:
    """A mount that is missing, or an upload that has only begun; other names for as many files are no loss."""
    for number in range(4):
        (source / f"app.{number}.js").write_text("1")
    import_directory(store, source)
    for number in range(4):
        (source / f"app.{number}.js").rename(source / f"app.{number}-new.js")
    assert import_directory(store, source).items == 7
    for path in source.glob("app.*"):
        path.unlink()
    told = r"generation 2 has 7 pages, and 3 would be left: 4 would go; see whether the directory is complete, or write"
    with pytest.raises(ImportWouldDrop, match=told) as refused:
        import_directory(store, source)
    assert (refused.value.sequence, refused.value.pages, store.sequences()) == (2, 4, [1, 2])
    assert import_directory(store, source, replace=True).items == 3


def test_an_import_behind_a_pin_says_that_it_is_not_served(source: Path, store: Store) -> None:
    assert import_directory(store, source).warnings == ()
    store.pin(1)
    expected = f"generation 2 is published, but 1 is pinned and stays served until 'hotpath unpin {store.root}'"
    assert import_directory(store, source).warnings == (expected,)
    store.unpin()
    assert import_directory(store, source).warnings == ()


def test_prefix_and_suffix(source: Path, store: Store) -> None:
    import_directory(store, source, prefix="/api", strip_suffix=".json")
    assert get(site_of(store), "/api/rankings/kospi").body == b'{"market":"kospi"}'


def test_the_second_import_keeps_what_did_not_change(source: Path, store: Store) -> None:
    import_directory(store, source)
    (source / "robots.txt").write_text("User-agent: none\n")
    published = import_directory(store, source)
    assert (published.generation, published.unchanged) == (2, 2)


def _link_out(source: Path) -> None:
    (source / "secret.json").symlink_to("/etc/passwd")


def _link_in(source: Path) -> None:
    (source / "same.json").symlink_to(source / "rankings" / "kospi.json")


def _link_of_a_directory(source: Path) -> None:
    (source / "elsewhere").symlink_to("/etc")


def _fifo(source: Path) -> None:
    os.mkfifo(source / "pipe.json")


def _socket(source: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(source / "s.json"))


def _same_folded(source: Path) -> None:
    (source / "rankings" / "KOSPI.json").write_text("{}")


def _not_utf8(source: Path) -> None:
    (source / os.fsdecode(b"caf\xe9.json")).write_text("{}")


def _no_json(source: Path) -> None:
    (source / "bad.json").write_text('{"a":')


def _nan(source: Path) -> None:
    (source / "nan.json").write_text('{"a": NaN}')


def _not_json_without_an_ending(source: Path) -> None:
    (source / "LICENSE").write_text("As you like.")


def _empty(source: Path) -> None:
    (source / "empty.txt").write_text("")


def _hidden(source: Path) -> None:
    (source / ".env").write_text("SECRET_KEY=1")


def _hidden_directory(source: Path) -> None:
    (source / ".git" / "objects").mkdir(parents=True)
    (source / ".git" / "config").write_text("[core]")
    (source / ".git" / "objects" / "pack").write_text("x")


def _large(source: Path) -> None:
    with (source / "film.mp4").open("wb") as file:
        file.truncate(33 * 1024 * 1024)


def _backslash(source: Path) -> None:
    (source / "a\\b.json").write_text("{}")


@pytest.mark.parametrize(
    ("plant", "name", "told"),
    [
        (_link_out, "secret.json", "is a link to '/etc/passwd'; copy the file in its place"),
        (_link_in, "same.json", "is a link to"),
        (_link_of_a_directory, "elsewhere", "is a link to '/etc'"),
        (_fifo, "pipe.json", "is no regular file"),
        (_socket, "s.json", "is no regular file"),
        (_same_folded, "rankings/", "rename one of them"),
        (_not_utf8, "caf\\xe9.json", "rename it in UTF-8"),
        (_no_json, "bad.json", "is not JSON ("),
        (_not_json_without_an_ending, "LICENSE", "a file without an ending is taken for JSON, so give it one"),
        (_empty, "empty.txt", "is empty"),
        (_hidden, ".env", "is hidden"),
        (_hidden_directory, ".git", "is hidden"),
        (_large, "film.mp4", "leave it to the web server"),
        (_nan, "nan.json", "JSON"),
        (_backslash, "a\\b.json", "rename it"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_could_not_be_served_is_refused_whole(
    source: Path, store: Store, plant: Callable[[Path], None], name: str, told: str
) -> None:
    import_directory(store, source)
    before = {path.name for path in store.root.iterdir()}
    plant(source)
    with pytest.raises(ImportRefused) as refused:
        import_directory(store, source)
    assert len(refused.value.problems) == 1
    assert name in refused.value.problems[0]
    assert told in refused.value.problems[0]
    assert store.sequences() == [1]
    assert {path.name for path in store.root.iterdir()} == before


SECRETS = (
    *("hotpath.env", "site.env.production", "tls.key", "TLS.PEM", "store.p12", "a.pfx", "putty.ppk", "id_rsa"),
    *("id_ed25519", "rankings/app.sqlite", "app.sqlite3", "app.db", "app.sqlite-wal", "htpasswd", "backup.sqlite.gz"),
)


def test_secrets_are_refused_by_name_with_the_option_that_allows_one(source: Path, store: Store) -> None:
    for name in SECRETS:
        (source / name).write_text('"secret"')
    for name in ("id_rsa.pub", "environment.html", "keys.json", "key", "monkey", "a.environment"):
        (source / name).write_text("{}")
    with pytest.raises(ImportRefused) as refused:
        import_directory(store, source)
    assert sorted(line.partition(":")[0] for line in refused.value.problems) == sorted(SECRETS)
    assert "TLS.PEM: looks like a secret by its name; move it elsewhere, or write --allow TLS.PEM" in str(refused.value)
    assert not store.sequences()
    imported = import_directory(store, source, allow=SECRETS)
    assert imported.items == 3 + len(SECRETS) + 6
    with pytest.raises(HotpathError, match=r"--allow nothing\.pem: there is no such file"):
        import_directory(store, source, allow=(*SECRETS, "nothing.pem"))


def test_every_problem_is_named_at_once(source: Path, store: Store) -> None:
    for plant in (_link_out, _fifo, _same_folded, _no_json):
        plant(source)
    with pytest.raises(ImportRefused) as refused:
        import_directory(store, source)
    assert len(refused.value.problems) == 4
    assert store.sequences() == []


@pytest.mark.parametrize(
    ("prefix", "told"),
    [
        ("api", "a URL path starts with a slash; write /api"),
        ("/", "there is no such directory"),
        ("/a%20b?c", "% and [?] cannot be in it; write the path alone, not percent-encoded"),
    ],
)
def test_wrong_arguments(source: Path, store: Store, prefix: str, told: str) -> None:
    directory = source / "none" if prefix == "/" else source
    with pytest.raises(HotpathError, match=told):
        import_directory(store, directory, prefix=prefix)


def test_an_empty_directory_publishes_nothing(tmp_path: Path, store: Store) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(HotpathError, match="holds no files, so there is nothing to publish"):
        import_directory(store, tmp_path / "nothing")
    assert not store.root.exists()


@pytest.mark.parametrize("place", [".", "sub", "sub/hot"])
def test_a_store_inside_of_what_is_imported_would_be_imported_too(source: Path, place: str) -> None:
    store = Store(source / place)
    with pytest.raises(HotpathError, match=r"the store .* is inside of it"):
        import_directory(store, source)
    assert store.sequences() == []


def test_folders_may_be_deeper_than_python_calls(tmp_path: Path, store: Store) -> None:
    depth = 300
    page = tmp_path.joinpath("deep", *["d"] * depth, "page.json")
    page.parent.mkdir(parents=True)
    page.write_text("[1]")
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + depth - 50)
    try:
        assert import_directory(store, tmp_path / "deep").items == 1
    finally:
        sys.setrecursionlimit(before)
    assert [*store.read_manifest(1).items] == ["/" + "d/" * depth + "page.json"]


@pytest.mark.parametrize("depth", [1, 2])
def test_a_folder_that_becomes_a_link_after_it_was_looked_at_leads_nowhere(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    """Whoever may write the directory must not have files published that only the importer may read."""
    secret, source = tmp_path / "secret", tmp_path / "source"
    for top, text in ((secret, '["secret"]'), (source, '["public"]')):
        (top / "a" / "b").mkdir(parents=True)
        (top / "a" / "b" / "page.json").write_text(text)
    swapped = source.joinpath(*"ab"[:depth])
    unchanged = importing.key_of_file

    def swap(name: str, prefix: str, strip_suffix: str) -> tuple[str | None, str | None]:
        shutil.move(swapped, tmp_path / "aside")
        swapped.symlink_to(secret.joinpath(*"ab"[:depth]))
        return unchanged(name, prefix, strip_suffix)

    monkeypatch.setattr(importing, "key_of_file", swap)
    with pytest.raises(ImportRefused, match=r"a/b/page\.json: cannot be read"):
        import_directory(store, source)
    assert store.sequences() == []


def _half(manifest: Manifest, previous: Manifest | None) -> list[str]:
    if previous is not None and len(manifest.items) < len(previous.items):
        return [f"{len(previous.items) - len(manifest.items)} pages are gone"]
    return []


def test_the_same_validation_as_a_build(source: Path, store: Store) -> None:
    import_directory(store, source, validate=_half)
    (source / "robots.txt").unlink()
    with pytest.raises(Implausible, match="1 pages are gone"):
        import_directory(store, source, validate=_half)
    assert (store.chosen_sequence(), store.quarantined()) == (1, [2])


@pytest.mark.slow
def test_the_command(source: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "checks.py").write_text("def never(new, old):\n    return ['not today']\n\nword = 'x'\n")
    arguments = ("import", str(store.root), str(source))
    code, told = run(tmp_path, *arguments, "--validate", "checks:never")
    assert code == 1
    assert "not today" in told
    assert "hotpath approve" in told
    code, told = run(tmp_path, *arguments, "--validate", "checks:word")
    assert code == 2
    assert "expected a function" in told
    code, told = run(tmp_path, *arguments)
    assert (code, "3 items" in told) == (0, True)
    assert run(tmp_path, "approve", str(store.root), "1", "--reason", "x")[0] == 1, "a newer one was accepted"


@pytest.mark.slow
def test_the_command_names_what_it_skips_and_what_would_go(source: Path, store: Store, tmp_path: Path) -> None:
    build(_built(store))
    (source / "page.html~").write_text("x")
    for number in range(25):
        (source / f"{number}.js").write_text("1")
        (source / f"{number}.js.gz").write_bytes(b"1")
    arguments = ("import", str(store.root), str(source))
    code, told = run(tmp_path, *arguments)
    assert (code, "of its 6 pages, 5 would go" in told) == (1, True)
    code, told = run(tmp_path, *arguments, "--replace")
    assert code == 0
    assert "skipped 1 file, left by editors, transfers or desktops: page.html~\n" in told
    assert "skipped 25 files, copies that hotpath makes itself: 0.js.gz, 1.js.gz, " in told
    assert told.rstrip().endswith(", …")
    code, told = run(tmp_path, *arguments, "--json")
    facts = json.loads(told)
    assert (code, facts["left_behind"], len(facts["precompressed"])) == (0, ["page.html~"], 25)
    code, told = run(tmp_path, *arguments, "--keep-precompressed", "--json")
    assert json.loads(told)["items"] == 53


@pytest.mark.slow
def test_a_target_is_not_taken_for_the_name_of_a_new_store(source: Path, tmp_path: Path) -> None:
    code, told = run(tmp_path, "import", "mysite:hot", str(source))
    assert (code, "mysite:hot: this is a TARGET, expected the path of a store" in told) == (2, True)
    assert not (tmp_path / "mysite:hot").exists()
    assert run(tmp_path, "import", str(tmp_path / "mysite:hot"), str(source))[0] == 0, "as it says to write it"
