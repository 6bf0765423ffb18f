"""What is known of a site, what was given, what is assumed; and that a file says which."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from hotpath.batch.run import build
from hotpath.errors import DeclarationError
from hotpath.ops.render.facts import OPTIONS, as_options, gather, head
from hotpath.site import Hotpath
from hotpath.store.store import Store
from tests.ops.render.conftest import MakeFacts, shop


def test_what_the_site_declares_is_known(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot", hosts=("example.net", "*.example.net"))
    hot.route("/a")(lambda: 1)
    facts = gather(hot, "shop:hot")
    assert facts.hosts == ("example.net", "*.example.net")
    assert facts.base_url == "https://example.net"
    assert (facts.target, facts.build_target, facts.name) == ("shop:hot", "shop:hot", "shop")
    assert facts.sources["hosts"] == "known"
    assert facts.sources["base_url"] == "default"
    assert facts.store == tmp_path / "hot"


def test_routes_have_their_templates_and_pages(make_facts: MakeFacts) -> None:
    facts = make_facts()
    assert [(route.path, route.file, route.pages) for route in facts.routes] == [
        ("/rankings/{market}", "rankings/{market}.json", 2),
        ("/top/{market}", "top/{market}@{n}.json", 2),
        ("/about", "about.html", 1),
    ]
    assert facts.routes[0].policy.lifetime_seconds == 7200


def test_of_a_store_alone_routes_are_what_is_published(make_facts: MakeFacts) -> None:
    facts = make_facts(of_store=True)
    assert facts.target is None
    assert facts.build_target == str(facts.store)
    assert {(route.path, route.file, route.pages) for route in facts.routes} == {
        ("/rankings/{market}", None, 2), ("/top/{market}", None, 2), ("/about", None, 1),
    }  # fmt: skip


def test_before_the_first_build_there_is_no_manifest(tmp_path: Path) -> None:
    facts = gather(shop(tmp_path / "hot"), "shop:hot")
    assert facts.manifest is None
    assert [route.pages for route in facts.routes] == [0, 0, 0]
    assert gather(Store(tmp_path / "none"), "none").routes == ()


def test_pages_of_the_served_generation_count_and_not_of_the_newest(tmp_path: Path) -> None:
    hot = shop(tmp_path / "hot")
    build(hot)
    hot.store.pin(1)
    build(hot)
    facts = gather(hot, "shop:hot")
    assert facts.manifest is not None
    assert facts.manifest.sequence == 1


def test_the_app_is_found_beside_the_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("mysite_hot")
    monkeypatch.setitem(sys.modules, "mysite_hot", module)
    hot = Hotpath(tmp_path / "hot")
    assert gather(hot, "mysite_hot:hot").sources["app"] == "default"
    module.application = lambda: None  # type: ignore[attr-defined]
    facts = gather(hot, "mysite_hot:hot")
    assert (facts.app, facts.name, facts.sources["app"]) == ("mysite_hot:application", "mysite-hot", "known")


def test_an_option_comes_first_and_the_address_gives_the_host(tmp_path: Path) -> None:
    facts = gather(Hotpath(tmp_path / "hot"), "shop:hot", base_url="https://Shop.example.org/sub/", port=81)
    assert (facts.base_url, facts.hosts) == ("https://shop.example.org/sub", ("shop.example.org",))
    assert (facts.port, facts.sources["port"], facts.sources["admin"]) == (81, "option", "default")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("name", "../x", "--name"),
        ("name", "a b", "--name"),
        ("batch_time", "24:00", "--batch-time"),
        ("batch_time", "02:30\n", "--batch-time"),
        ("user", "a;b", "--user"),
        ("hosts", ("exa mple.org",), "--host"),
        ("hosts", ("example.org\n",), "--host"),
        ("admin", "9180", "--admin"),
        ("mail", "a@b\nMAILTO=c", "--mail"),
        ("mail", "a b", "--mail"),
        ("app", "shop:app;rm", "--app"),
        ("base_url", "example.org", "--base-url"),
        ("memory_bytes", "lots", "--memory"),
    ],
)
def test_a_value_that_cannot_be_one_is_refused(tmp_path: Path, name: str, value: Any, problem: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        gather(Hotpath(tmp_path / "hot"), "shop:hot", **{name: value})
    assert str(refused.value).startswith(problem)
    assert "\n" not in str(refused.value)


def test_the_head_names_what_is_assumed_and_only_of_this_file(make_facts: MakeFacts) -> None:
    facts = make_facts(port=81, has_swap=True, command="hotpath render x shop:hot")
    assert head(facts, "port", "memory_bytes", "mail", "alerts", "has_swap") == [
        "Made by 'hotpath render x shop:hot': run that again instead of changing this file.",
        "Assumed, since it cannot be known here; give the option where it is different:",
        "  --memory 900MiB: memory of the app",
        "  no --mail: who gets mail of failures",
        "  no --alert: whether HOTPATH_ALERT_… are set in /etc/NAME.env",
    ]
    assert head(facts, "port") == head(facts)
    assert len(head(facts)) == 1


def test_a_fact_is_written_as_its_option(make_facts: MakeFacts) -> None:
    facts = make_facts(hosts=("a.org", "b.org"), has_swap=False, memory_bytes="1GiB")
    assert as_options(facts, "hosts") == ["--host", "a.org", "--host", "b.org"]
    assert as_options(facts, "has_swap") == ["--no-swap"]
    assert as_options(facts, "memory_bytes") == ["--memory", "1024MiB"]
    assert set(OPTIONS) <= set(facts.sources)
