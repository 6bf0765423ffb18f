"""A guard behind ``hotpath serve`` outside systemd leaves: the front starts a new process in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.front.forwarding import wait_until
from tests.front.serving import Serving, make_site

SITE = """
from hotpath import HotpathMiddleware, MemoryGuard
from hotpath.guard import Thresholds
from mysite1 import hot, inner

thresholds = Thresholds(shed_seconds=1.0, brake_seconds=1.0)
app = HotpathMiddleware(inner, hot=hot, guard=MemoryGuard(limit="512MiB", thresholds=thresholds))
"""


@pytest.mark.slow
def test_a_process_that_leaks_leaves_and_the_front_starts_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)  # the service that the tests run in
    site = make_site(tmp_path / "site")
    (site / "guarded_site.py").write_text(SITE)
    serve = Serving(site, "serve", "guarded_site:app", "--port", "{port}", "--last-good", "off")
    try:
        serve.wait_for("Uvicorn running on unix socket")
        first = serve.app_pid()
        assert serve.get("/hold?440")[0] == 200

        def is_another() -> bool:
            assert "nothing would start it again" not in serve.text, serve.text
            status, body = serve.get("/who")
            return status == 200 and int(body.split()[1]) != first

        wait_until(is_another, 60)
    finally:
        serve.stop()
