"""The sites of the conformance table, published once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from hotpath.serving import reader_of
from tests.wire.conformance.site import Site, make_sites


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Site]]:
    made = make_sites(tmp_path_factory.mktemp("sites"))
    yield made
    for site in made.values():
        reader_of(site.hot).close()


@pytest.fixture
def site(sites: Mapping[str, Site]) -> Site:
    return sites["plain"]
