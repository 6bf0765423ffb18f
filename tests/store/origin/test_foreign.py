"""What a generation from an origin may not decide: which files of this machine are pages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hotpath import Hotpath
from hotpath.pages.site_wide import SiteWide
from hotpath.serving.loader import Loader
from hotpath.store.publish import staging
from hotpath.store.store import Store
from hotpath.testing import FakeClock
from tests.store.origin.fake import FakeObjects
from tests.store.origin.machines import POLICY, Machine


def loaded(store: Store) -> tuple[set[bytes], list[SiteWide]]:
    """The pages as a front has them that knows the store alone, and what it takes over."""
    sites: list[SiteWide] = []
    loader = Loader(store, (), Hotpath(store.root).reading, pause=lambda: None, on_site=sites.append)
    loader.load_first()
    keys = set(loader.keys) | {key for key in (b"/page", b"/secrets/key") if loader.load_page(key) is not None}
    loader.release()
    return keys, sites


def test_directories_of_a_generation_from_an_origin_are_not_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    objects = FakeObjects(clock)
    builder, machine = (Machine(tmp_path / name, objects, clock) for name in ("builder", "machine"))
    secret = tmp_path / "secrets"
    secret.mkdir()
    (secret / "key.json").write_bytes(b'{"key": "geheim"}')
    os.utime(secret / "key.json", (1, 1))
    hot = Hotpath(tmp_path / "builder", headers={"X-Site": "1"})
    hot.directory("/secrets/{name}", str(secret / "{name}.json"))
    with staging(builder.store, site=hot.site_wide()) as stage:
        stage.add("/page", "page.json", b"[]", POLICY)
        stage.publish()
    assert b"/secrets/key" in loaded(builder.store)[0], "a machine's own generation names its own files"
    builder.origin.send(builder.store)
    assert machine.follower.look().changed

    pages, (site,) = loaded(machine.store)
    assert pages == {b"/page"}
    assert site.directories == ()
    assert site.reading.headers == (("X-Site", "1"),), "all else is taken over"
    (record,) = [r.getMessage() for r in caplog.records if "directories" in r.getMessage()]
    assert "hotpath front TARGET" in record
