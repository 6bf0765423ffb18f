"""What a crawler gets through ``hotpath front`` while the origin fails, scenario by scenario."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.front.forwarding import Reply
from tests.front.last_good import front, origin
from tests.front.last_good_scenarios import SCENARIOS, Got, Scenario, Want, is_as_wanted, run
from tests.front.serving import make_site

pytestmark = pytest.mark.slow
# With a patience of 0.5 s; loopback and a busy machine need the rest.
LONGEST_SECONDS = 4.0


@pytest.fixture(scope="module")
def came(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Got, Reply, float]]:
    site = make_site(Path(tmp_path_factory.mktemp("scenarios")) / "site")
    with origin() as failing, front(site, failing, "--hold", "0.3s") as started:
        return {scenario.name: (got, *rest) for scenario, got, *rest in run(failing, started.port)}  # type: ignore[misc]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_what_a_crawler_gets(scenario: Scenario, came: Mapping[str, tuple[Got, Reply, float]]) -> None:
    got, reply, seconds = came[scenario.name]
    assert is_as_wanted(scenario, got), f"{scenario.want}, and it was {got}: {reply.data[:600]!r}"
    assert seconds < LONGEST_SECONDS
    if scenario.want in (Want.OLD, Want.GONE):
        assert reply["age"] is not None
        assert (reply["cache-status"] or "").startswith("hotpath; hit")
    else:
        assert "; hit" not in (reply["cache-status"] or "")


def test_names_of_scenarios_are_their_keys() -> None:
    assert len({scenario.target for scenario in SCENARIOS}) == len(SCENARIOS)
