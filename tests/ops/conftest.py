"""A certificate authority of our own, and a small site."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from hotpath.batch.run import build
from hotpath.site import Hotpath


@dataclass(frozen=True)
class Authority:
    """``context`` is for a server called localhost, ``other`` for one with a wrong name; ``path`` has the authority."""

    context: ssl.SSLContext
    other: ssl.SSLContext
    path: Path


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))

    def server(name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(name).configure_cert(context)
        return context

    return Authority(server("localhost"), server("elsewhere.example.org"), path)


class SmallSite:
    """Twelve pages whose data a test can change; ``bump`` goes into every ranking."""

    def __init__(self, root: Path) -> None:
        self.hot = Hotpath(root)
        self.bump = 0
        self.rows = 40
        self.broken: BaseException | None = None

        @self.hot.route(
            "/rankings/{market}",
            each={"market": ["kospi", "nyse"]},
            records="items",
            required=("ticker", "pe"),
            critical=True,
        )
        def rankings(market: str) -> dict[str, Any]:
            if self.broken is not None:
                raise self.broken
            rows = [{"ticker": f"{market}-{row}", "pe": row + self.bump} for row in range(self.rows)]
            return {"market": market, "items": rows}

        @self.hot.route("/stocks/{name}", each={"name": [f"s{number}" for number in range(10)]})
        def stock(name: str) -> dict[str, Any]:
            return {"name": name, "text": "x" * 500}

    def build(self) -> int:
        return build(self.hot).published.generation


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    site = SmallSite(tmp_path / "hot")
    site.build()
    return site
