"""The table of faults in short: behind the front every hot answer is 200 and whole, whatever happens to the app."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.front_faults import FAULTS, run
from tests.front.serving import make_site
from tests.guard.groups import WHY_NOT as NO_GROUPS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("built") / "site")


@pytest.mark.parametrize("name", FAULTS)
def test_hot_pages_are_whole_in_each_row_behind_the_front(site: Path, tmp_path: Path, name: str) -> None:
    if name == "oom" and NO_GROUPS:
        pytest.skip(NO_GROUPS)
    seen = run(name, site, tmp_path, with_front=True, seconds=1.5)
    good, asked = seen.hot
    assert good == asked, (seen.statuses, seen.problems[:5])
    assert asked > 20


def test_the_app_alone_loses_hot_pages_where_it_is_killed(site: Path, tmp_path: Path) -> None:
    """Else the table shows nothing."""
    seen = run("kill", site, tmp_path, with_front=False, seconds=1.5)
    assert seen.hot[0] < seen.hot[1]
