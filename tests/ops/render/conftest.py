"""Sites to render files for: a plain one, and one in a directory whose name every program has trouble with."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotpath.batch.run import build
from hotpath.ops.render.facts import SiteFacts, gather
from hotpath.site import Hotpath

# A space, both quotation marks, what systemd and cron expand, what shells expand, a backslash, and a comment's mark.
AWKWARD = "a b \"c\" 'd' 50%n $HOME `e` \\f #g é"

MakeFacts = Callable[..., SiteFacts]


def shop(root: Path) -> Hotpath:
    hot = Hotpath(root)

    @hot.route("/rankings/{market}", each={"market": ["kospi", "nyse"]}, lifetime="2h")
    def rankings(market: str) -> dict[str, str]:
        return {"market": market}

    @hot.route("/top/{market}", each=[{"market": "kospi", "n": 1}, {"market": "kospi", "n": None}], query=("n",))
    def top(market: str, n: int | None) -> dict[str, Any]:
        return {"market": market, "first": n}

    @hot.route("/about", media_type="text/html")
    def about() -> str:
        return "<p>about"

    return hot


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that other users may enter, as pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def make_site(place: Path, store: str) -> Hotpath:
    """The shop, built, and programs beside it that print their arguments."""
    programs = place / ".venv" / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name in ("hotpath", "uvicorn"):
        (programs / name).write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
        (programs / name).chmod(0o755)
    hot = shop(place / store)
    build(hot)
    return hot


@pytest.fixture(scope="session")
def shared_site() -> Callable[[Path, str], Hotpath]:
    """Each site once: nothing that only renders changes it."""
    return functools.cache(make_site)


@pytest.fixture(scope="session")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sites")


@pytest.fixture
def make_facts(shared_site: Callable[[Path, str], Hotpath], shared_root: Path) -> MakeFacts:
    """Facts of a built site in a directory of this name; options as ``gather`` has them.

    A test that changes the site gives a ``root`` of its own.
    """

    def make(
        directory: str = "site",
        *,
        store: str = "var/hot",
        of_store: bool = False,
        root: Path | None = None,
        **options: Any,
    ) -> SiteFacts:
        place = (root or shared_root) / directory
        hot = make_site(place, store) if root else shared_site(place, store)
        programs = place / ".venv" / "bin"
        given = {"directory": place, "hotpath": str(programs / "hotpath"), "user": "nobody", "name": "site", **options}
        return gather(hot.store if of_store else hot, "shop:hot", **given)

    return make
