"""``hotpath status --origin`` says which generation a CDN gets."""

from __future__ import annotations

from pathlib import Path

from hotpath.ops.machines import origin_lines, origin_status
from hotpath.testing import FakeClock
from tests.store.origin.fake import FakeObjects
from tests.store.origin.machines import Machine, pages


def test_the_site_copy_is_named_where_there_is_one_and_where_it_is_behind(tmp_path: Path) -> None:
    clock = FakeClock()
    one = Machine(tmp_path / "one", FakeObjects(clock), clock)

    def lines() -> list[str]:
        return list(origin_lines(origin_status(one.origin)))

    one.publish(pages(1))
    one.origin.send(one.store)
    assert not [line for line in lines() if "copy" in line]
    one.origin.copy_site(one.store)
    assert "site copy of generation 1" in lines()
    one.publish(pages(2))
    one.origin.send(one.store)
    assert "site copy of generation 1, BEHIND: 'hotpath push TARGET --site-copy'" in lines()
