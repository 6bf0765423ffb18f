"""The built documentation: no warning, every public name with its docstring, units that systemd takes."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

import hotpath
from hotpath import errors
from hotpath.ops.render.setup import memory_shares
from hotpath.ops.render.systemd import FRONT_BYTES
from tests.project.test_architecture import MAY_USE
from tests.project.test_docs import split

ROOT = Path(__file__).parents[2]
API = ROOT / "docs" / "reference" / "api.md"
ARCHITECTURE = ROOT / "docs" / "explanation" / "architecture.md"
VPS = ROOT / "docs" / "how-to" / "vps-2gb.md"
SECONDS = 200


def build(root: Path, to: Path) -> subprocess.CompletedProcess[str]:
    for needed in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(needed)
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(to)],
        cwd=root,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_has_every_name(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "reference" / "api.html").read_text("utf-8")
    # Of a module its own heading is left out, and what is in it has to be there.
    missing = [name for name in names() if f'id="{name}"' not in page and f'id="{name}.' not in page]
    assert missing == []
    assert 'src="guard-states.svg"' in (tmp_path / "site" / "explanation" / "guard.html").read_text("utf-8")
    assert fetched(tmp_path / "site") == []


def fetched(site: Path) -> list[str]:
    """What a browser would get from elsewhere to show a page; mermaid is named by its class, the theme fetches it."""
    found = []
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = page.read_text("utf-8")
        found += re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*", text)
        found += re.findall(r"(?:@import\s*|url\()[\"']?(?:https?:)?//\S*|class=\"mermaid\"", text)
    return found


@pytest.mark.parametrize(
    "planted",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/x.css">',
        '<pre class="mermaid">',
        "<style>@import url(https://fonts.example/x.css)</style>",
    ],
)
def test_what_a_page_would_fetch_is_found(tmp_path: Path, planted: str) -> None:
    (tmp_path / "page.html").write_text(f'<a href="https://example.org">x</a> {planted}', "utf-8")
    assert fetched(tmp_path)
    (tmp_path / "page.html").write_text('<a href="https://example.org">x</a> <img src="x.svg">', "utf-8")
    assert fetched(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("[a](gone.md)", "gone.md"),
        ("[a](index.md#gone)", "#gone"),
        ("::: hotpath.gone", "hotpath.gone"),
    ],
)
def test_what_leads_nowhere_fails_the_build(tmp_path: Path, planted: str, said: str) -> None:
    for name in ("mkdocs.yml", "tools/docs_site.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Here\n\n{planted}\n", "utf-8")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert said in done.stderr


def names() -> list[str]:
    """What the page of names says: one ``:::`` line each."""
    return re.findall(r"^::: (hotpath\.\S+)$", API.read_text("utf-8"), re.MULTILINE)


def rooms() -> list[ModuleType]:
    """The root, ``testing`` and the rooms that hand names on. Nobody imports ``cli``: it is run by its command."""
    here = Path(hotpath.__file__).parent
    packages = (".".join(("hotpath", *path.parent.relative_to(here).parts)) for path in here.rglob("__init__.py"))
    inside_django = "hotpath.contrib.django"  # can be imported in a project only
    names = {name for name in packages if not name.startswith((inside_django, "hotpath.cli"))}
    found = [importlib.import_module(name) for name in sorted(names | {"hotpath.testing"})]
    return [module for module in found if hasattr(module, "__all__")]


def test_every_name_that_a_room_hands_on_is_in_the_reference() -> None:
    listed = [resolved(name) for name in names() if not name.startswith("hotpath.contrib.django")]
    listed += [error for _, error in inspect.getmembers(errors, inspect.isclass)]
    missing = [
        f"{room.__name__}.{name}"
        for room in rooms()
        for name in set(room.__all__) - {"__version__"}
        if not any(getattr(room, name) is known for known in listed)
    ]
    assert missing == []
    assert "hotpath.errors" in names()


def test_every_name_in_the_reference_is_handed_on_by_its_room() -> None:
    handed_on = {f"{room.__name__}.{name}" for room in rooms() for name in room.__all__}
    assert set(names()) - handed_on == {"hotpath.contrib.django", "hotpath.errors"}
    assert len(names()) == len(set(names()))


def test_the_rooms_that_hand_names_on_are_found() -> None:
    assert {"hotpath", "hotpath.guard", "hotpath.ops.alerts", "hotpath.testing"} <= {room.__name__ for room in rooms()}


def resolved(name: str) -> object:
    """The module of this name, or what its module has under it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", names())
def test_a_name_in_the_reference_is_there_and_has_a_docstring(name: str) -> None:
    if name.startswith("hotpath.contrib.django"):
        pytest.importorskip("django")
        return  # imported inside a project only; its own tests do that
    assert inspect.getdoc(resolved(name)), f"{name} has no docstring"


def test_the_modules_that_the_architecture_names_exist() -> None:
    here = Path(hotpath.__file__).parent
    rooms = "|".join(path.name for path in here.iterdir() if path.is_dir())
    named = set(re.findall(rf"`((?:{rooms})/\w+)`", ARCHITECTURE.read_text("utf-8")))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (here / f"{name}.py").exists()] == []


def test_the_architecture_page_has_the_rule_that_is_tested() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.*?) ?\|$", ARCHITECTURE.read_text("utf-8"), re.MULTILINE)
    assert {room: set(re.findall(r"\w+", used)) for room, used in rows} == {
        room: set(used.split()) for room, used in MAY_USE.items()
    }


def test_the_limits_of_the_how_to_are_those_that_init_gives() -> None:
    app, batch = memory_shares("2GiB")
    text = VPS.read_text("utf-8")
    assert f"45 % of the machine: {app // 1024**2} MiB" in text
    assert f"`site.service`, {(app + FRONT_BYTES) // 1024**2} MiB in all" in text
    assert f"25 %: {batch // 1024**2} MiB, each item {batch // 2 // 1024**2} MiB" in text


def test_systemd_takes_the_units_of_the_how_to(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    units = ["site.service", "site.socket", "site-front.service", "site-app.service"]
    text = VPS.with_name("serve.md").read_text("utf-8")
    places = re.findall(r"`/etc/systemd/system/(site[\w.-]+)`:", text)
    blocks = [block for block in split(text)[0] if block.language == "ini"]
    assert places == units
    for place, block in zip(places, blocks, strict=True):
        unit = "\n".join(block.lines).replace("User=site\n", "").replace("/srv/site/.venv/bin/", "/bin/")
        # What is run is not here; that the line can be read is what counts.
        unit = re.sub(r"^ExecStart=/bin/\S+", "ExecStart=/bin/true", unit, flags=re.MULTILINE)
        (tmp_path / place).write_text(unit, "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / place) for place in places)],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or line.startswith("site")]
    assert said == [], done.stderr


def test_the_picture_of_the_demo_shows_its_verdict_and_fetches_nothing() -> None:
    picture = (ROOT / "docs" / "demo.svg").read_text("utf-8")
    said = " ".join("".join(element.itertext()) for element in ET.fromstring(picture).iter() if element.text)
    said = said.replace("\xa0", " ")
    assert "$ hotpath demo" in said
    assert re.search(r"(\d+) of \1 hot pages stayed at 200", said)
    assert not re.search(r"@font-face|@import|url\(https?:", picture)
