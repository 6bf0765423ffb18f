"""What the how-to page on deploys says of routes that are renamed: restart first, then build, and redirects."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Route

from hotpath.asgi.health import HealthEndpoints
from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.run import build
from hotpath.errors import Implausible
from hotpath.site import Hotpath
from hotpath.store.quarantine import approve
from hotpath.testing import asgi_get
from tests.wire.differential.test_how_to_nginx import HOST, Site, configuration, filled_in, nginx
from tests.wire.differential.test_nginx import NGINX, ROOT, free_port

pytestmark = pytest.mark.usefixtures("items_in_this_process")

PAGE = ROOT / "docs" / "how-to" / "deploy.md"
OLD, NEW = "/rankings/{market}", "/markets/{market}/ranking"
MARKETS = ("kospi", "nyse", "amex")


def ranking(market: str) -> dict[str, Any]:
    return {"market": market, "items": [{"n": n} for n in range(50)]}


def declared(root: Path, *paths: str, markets: tuple[str, ...] = MARKETS) -> Hotpath:
    hot = Hotpath(root / "hot")
    for path in paths:
        hot.route(path, each={"market": markets}, records="items")(ranking)
    return hot


async def cold(request: Any) -> PlainTextResponse:
    return PlainTextResponse("cold")


async def moved(request: Any) -> RedirectResponse:
    return RedirectResponse(f"/markets/{request.path_params['market']}/ranking", 301)


def old_code(root: Path) -> HotpathMiddleware:
    return HotpathMiddleware(Starlette(routes=[Route(OLD, cold)]), hot=declared(root, OLD))


def new_code(root: Path) -> HotpathMiddleware:
    return HotpathMiddleware(Starlette(routes=[Route(NEW, cold), Route(OLD, moved)]), hot=declared(root, NEW))


def ask(app: Any, target: str) -> str:
    """``hot``, or the status of the app's answer; each process begins with what the store has now."""
    answer = asyncio.run(asgi_get(app, target))
    if answer.header("cache-status") is None:
        return str(answer.status)
    assert answer.status == 200
    return "hot"


def both(app: Any) -> tuple[str, str]:
    return ask(app, "/rankings/kospi"), ask(app, "/markets/kospi/ranking")


def test_restart_first_then_build_answers_both_urls_all_the_time(tmp_path: Path) -> None:
    build(declared(tmp_path, OLD))
    assert both(old_code(tmp_path)) == ("hot", "404")
    assert both(new_code(tmp_path)) == ("hot", "200"), "restarted"
    build(declared(tmp_path, NEW))
    assert both(new_code(tmp_path)) == ("301", "hot"), "built"
    declared(tmp_path, NEW).store.rollback()
    assert both(new_code(tmp_path)) == ("hot", "200"), "rolled back"


def test_build_first_leaves_the_old_url_to_the_old_code(tmp_path: Path) -> None:
    build(declared(tmp_path, OLD))
    build(declared(tmp_path, NEW))
    assert both(old_code(tmp_path)) == ("200", "hot")


@pytest.mark.slow
def test_a_critical_page_without_a_cold_endpoint_keeps_readyz_at_503_until_it_is_built(tmp_path: Path) -> None:
    build(declared(tmp_path, OLD))

    async def ready() -> int:
        hot = declared(tmp_path, NEW)
        critical = ("/markets/kospi/ranking",)
        app = HealthEndpoints(HotpathMiddleware(Starlette(), hot=hot), hot=hot, critical=critical)
        statuses = []
        for _ in range(50):
            statuses.append((await asgi_get(app, "/readyz")).status)
            if statuses[-1] == 200:
                break
            await asyncio.sleep(0.02)
        return statuses[-1]

    assert asyncio.run(ready()) == 503
    build(declared(tmp_path, NEW))
    assert asyncio.run(ready()) == 200


def test_a_parameter_with_another_name_goes_into_quarantine_after_three_runs(tmp_path: Path) -> None:
    renamed = ("kospi", "newyork", "amex")
    for _ in range(3):
        build(declared(tmp_path, OLD))
    with pytest.raises(Implausible) as caught:
        build(declared(tmp_path, OLD, markets=renamed))
    assert "/rankings/nyse" in str(caught.value.problems)
    store = declared(tmp_path, OLD).store
    assert store.chosen_sequence() == 3
    approve(store, caught.value.sequence, "renamed")
    assert ask(old_code(tmp_path), "/rankings/newyork") == "hot"


def test_with_fewer_accepted_runs_it_is_published(tmp_path: Path) -> None:
    for _ in range(2):
        build(declared(tmp_path, OLD))
    build(declared(tmp_path, OLD, markets=("kospi", "newyork", "amex")))
    assert ask(old_code(tmp_path), "/rankings/newyork") == "hot"


def test_a_function_can_be_hot_at_both_addresses(tmp_path: Path) -> None:
    build(declared(tmp_path, OLD, NEW))
    assert both(new_code(tmp_path)) == ("hot", "hot")


def test_the_redirect_in_nginx_needs_no_app_and_names_no_inner_address(tmp_path: Path) -> None:
    if NGINX is None:
        pytest.skip("needs nginx (Debian: nginx-light)")
    found = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) == 1
    tmp_path.chmod(0o755)
    build(declared(tmp_path, OLD))
    site = Site("none", tmp_path, app=free_port())
    text = configuration()
    assert text.count("    location / {") == 1
    text = text.replace("    location / {", found[0] + "    location / {")
    with nginx(tmp_path, site.front, filled_in(text, tmp_path / "hot", site.app, site.front)):
        answer = site.ask("/rankings/kospi?utm_source=a", host=HOST)
        assert (answer.status, answer.header("location")) == (301, "/markets/kospi/ranking")
        assert site.ask("/rankings/kospi/more", method="POST").status == 503, "the app's, which is down"
