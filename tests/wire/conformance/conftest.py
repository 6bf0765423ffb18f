"""The sites are published once for all rows; nothing that is asked of them changes them."""

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
