"""Media types come from a table of the package, whatever Python and the machine know."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path

import pytest

from hotpath.pages import media_types, policy
from hotpath.pages.keys import parse_path_template
from hotpath.pages.media_types import TYPES, ending_of_media_type
from hotpath.pages.policy import default_media_type, file_media_type
from hotpath.pages.routes import default_file

# What Python 3.11 does not know, or no longer has the registered name of.
NEW_SINCE_3_11 = {
    "webp": "image/webp",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "ttf": "font/ttf",
    "otf": "font/otf",
    "rss": "application/rss+xml",
    "atom": "application/atom+xml",
    "geojson": "application/geo+json",
    "jsonld": "application/ld+json",
    "map": "application/json",
    "md": "text/markdown; charset=utf-8",
    "ics": "text/calendar; charset=utf-8",
    "yaml": "application/yaml",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "ogg": "audio/ogg",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xhtml": "application/xhtml+xml",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "zst": "application/zstd",
}
KNOWN_TO_3_11 = {
    "avif": "image/avif",
    "webmanifest": "application/manifest+json",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
    "xml": "text/xml; charset=utf-8",
    "svg": "image/svg+xml",
    "css": "text/css; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "wasm": "application/wasm",
    "ico": "image/vnd.microsoft.icon",
    "pdf": "application/pdf",
}


@pytest.mark.parametrize(("ending", "media_type"), (NEW_SINCE_3_11 | KNOWN_TO_3_11).items())
def test_files_and_routes_have_the_type_of_the_table(ending: str, media_type: str) -> None:
    assert file_media_type(f"a/b.{ending}") == media_type
    assert file_media_type(f"a/B.{ending.upper()}") == media_type
    assert default_media_type(f"/a/{{name}}.{ending}") == media_type


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("v1/data", "application/json"),
        ("v1.2/data", "application/json"),
        (".well-known/apple-app-site-association", "application/json"),
        ("example.org/2026.11/data", "application/json"),
        ("a.webp/rows", "application/json"),
        ("rows.parquet", "application/octet-stream"),
        ("v1/rows.v1", "application/octet-stream"),
        ("data.csv.gz", "application/gzip"),
        ("data.tgz", "application/gzip"),
        ("data.csv.bz2", "application/x-bzip2"),
        ("data.csv.xz", "application/x-xz"),
        ("data.csv.Z", "application/octet-stream"),
        ("app.js.br", "application/octet-stream"),
    ],
)
def test_only_the_last_part_of_a_path_has_an_ending(name: str, media_type: str) -> None:
    assert file_media_type(name) == media_type


@pytest.mark.parametrize("path", ["/", "/dir/", "/v1.2/data", "/rows/v1.2", "/a.{ending}"])
def test_a_route_without_a_known_ending_is_json(path: str) -> None:
    assert default_media_type(path) == "application/json"


def test_the_table_is_sound() -> None:
    """Lower-case endings, each once; a type's first ending leads back to it."""
    assert all(re.fullmatch(r"[a-z0-9]+", ending) for ending in TYPES)
    assert all(re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", media_type) for media_type in TYPES.values())
    others = {"application/xml": "xml"} | {name: "json" for name in TYPES.values() if name.endswith("json")}
    for media_type in TYPES.values():
        ending = ending_of_media_type(media_type)
        assert TYPES[ending] == media_type or ending == others[media_type]


# All endings in the table of Python 3.11.
ENDINGS_OF_3_11 = """
3g2 3gp 3gpp 3gpp2 a aac adts ai aif aifc aiff ass au avi avif bat bcpio bin bmp c cdf cpio csh css csv dll doc dot
dvi eml eps etx exe gif gtar h h5 hdf heic heif htm html ico ief jpe jpeg jpg js json ksh latex loas m1v m3u m3u8
man me mht mhtml mif mjs mov movie mp2 mp3 mp4 mpa mpe mpeg mpg ms n3 nc nq nt nws o obj oda opus p12 p7c pbm pdf
pfx pgm pl png pnm pot ppa ppm pps ppt ps pwz py pyc pyo qt ra ram ras rdf rgb roff rtx sgm sgml sh shar snd so src
srt sv4cpio sv4crc svg swf t tar tcl tex texi texinfo tif tiff tr trig tsv txt ustar vcf vtt wasm wav webm
webmanifest wiz wsdl xbm xlb xls xml xpdl xpm xsl xwd zip
"""


def test_no_ending_that_python_3_11_knows_is_missing() -> None:
    assert {*ENDINGS_OF_3_11.split()} <= {*TYPES}


def test_the_machine_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mimetypes, "knownfiles", [])
    monkeypatch.setattr(mimetypes, "types_map", {".webp": "text/html"})
    mimetypes.add_type("text/x-ours", ".woff2")
    assert (file_media_type("a.webp"), file_media_type("a.woff2")) == ("image/webp", "font/woff2")
    assert not any(hasattr(module, "mimetypes") for module in (media_types, policy))


@pytest.mark.parametrize(
    ("path", "query", "media_type", "file"),
    [
        ("/image/{name}.webp", (), "image/webp", "image/{name}.webp"),
        ("/feed.atom", (), "application/atom+xml", "feed.atom"),
        ("/feed", (), "application/rss+xml; charset=utf-8", "feed.rss"),
        ("/feed", (), "application/xml", "feed.xml"),
        ("/feed", (), "application/vnd.example+xml", "feed.xml"),
        ("/places", (), "application/geo+json", "places.json"),
        ("/font", (), "font/woff2", "font.woff2"),
        ("/a.b/data", ("page",), "application/json", "a.b/data@{page}.json"),
        ("/rows", (), "Text/HTML; charset=utf-8", "rows.html"),
        ("/rows", (), "application/x-nobody-knows", "rows.bin"),
        ("/sitemap.xml.gz", (), "application/gzip", "sitemap.xml.gz"),
        ("/all.gz", (), "application/gzip", "all.gz"),
        ("/", (), "text/html", "index.html"),
    ],
)
def test_the_file_of_a_route_has_the_ending_of_its_type(
    path: str, query: tuple[str, ...], media_type: str, file: str
) -> None:
    assert default_file(parse_path_template(path), query, media_type) == file


def test_the_reference_has_the_whole_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "media-types.md"
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", page.read_text("utf-8"), re.MULTILINE)
    documented = {ending: media_type for media_type, endings in rows for ending in re.findall(r"`([^`]+)`", endings)}
    assert documented == TYPES
