"""Rules that Prometheus takes, each alert fired and not fired by promtool; a leak that a real Prometheus sees."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hotpath.batch.run import build
from hotpath.ops.render.facts import SiteFacts, gather
from hotpath.ops.render.files import write
from hotpath.ops.render.whats import WHATS
from hotpath.site import Hotpath
from tests.ops.render.conftest import MakeFacts
from tests.wire.differential.test_nginx import ROOT, free_port, running

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool: apt-get install prometheus")
needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="needs Prometheus: apt-get install prometheus")
AWKWARD = "a \"b\" 'c' 50% {d} $HOME `e` \\f #g: - é\nh"


@dataclass(frozen=True)
class Alert:
    """Series by what follows ``hotpath_`` that fire the alert at ``minutes``, with its text, and that do not."""

    name: str
    severity: str
    fires: dict[str, str]
    summary: str
    quiet: tuple[dict[str, str], ...]
    minutes: int = 20
    instance: str | None = None


_MEMORY = 'memory_unreclaimable_bytes{job="site"}'
_LIMIT = {'memory_limit_bytes{job="site"}': "100x80"}
_STATE = 'guard_state{job="site", slot="0", state="%s"}'
_AGE = 'generation_age_seconds{job="site"}'
_UP = 'up{job="site", part="%s"}'
_PIN = 'pinned{job="site"}'


def front(answers: str, errors: str, bad_gateway: str = "0x80") -> dict[str, str]:
    """Figures of the front: what the app answered well and badly, and what it did not answer."""
    none = dict.fromkeys(
        (f'front_requests_{name}_total{{job="site"}}' for name in ("broken", "refused", "timed_out")), "0x80"
    )
    return {
        'front_app_answers_total{job="site", class="2xx"}': answers,
        'front_app_answers_total{job="site", class="5xx"}': errors,
        'front_requests_bad_gateway_total{job="site"}': bad_gateway,
        **none,
    }


ALERTS = (
    Alert("HotpathMemory80", "warning", {_MEMORY: "85x80", **_LIMIT}, "site has 85% of its memory in use",
          ({_MEMORY: "79x80", **_LIMIT}, {_MEMORY: "85x1 70x80", **_LIMIT})),
    Alert("HotpathMemory90", "critical", {_MEMORY: "95x80", **_LIMIT},
          "site has 95% of its memory in use; hot pages go on", ({_MEMORY: "89x80", **_LIMIT},)),
    Alert("HotpathMemoryEnds", "warning", {'memory_time_to_exhaustion_seconds{job="site"}': "600x80"},
          "The memory of site ends in 10m 0s if it grows on like this",
          ({'memory_time_to_exhaustion_seconds{job="site"}': "1000x80"},
           {'memory_time_to_exhaustion_seconds{job="site"}': " ".join(["Inf"] * 80)})),
    Alert("HotpathShedding", "critical", {_STATE % "shed": "1x80"},
          "site refuses requests for an hour to save memory: give it more, or find the leak",
          ({_STATE % "shed": "1x50 0x30"}, {_STATE % "trim": "1x80", _STATE % "shed": "0x80"}), 65),
    Alert("HotpathMemoryBlind", "warning", {'guard_sample_age_seconds{job="site"}': "11x80"},
          "The guard of site cannot read its memory", ({'guard_sample_age_seconds{job="site"}': "9x80"},)),
    Alert("HotpathKilled", "critical", {'cgroup_oom_kills_total{job="site"}': "3x14 4x80"},
          "The kernel killed processes of site, as its memory was used up",
          ({'cgroup_oom_kills_total{job="site"}': "3x80"}, {'cgroup_oom_kills_total{job="site"}': "3x2 4x80"})),
    Alert("HotpathBatchLate", "warning", {_AGE: "90060x80", _PIN: "0x80"},
          "site serves pages of 1d 1h 1m 0s ago: the batch did not publish",
          ({_AGE: "89000x80", _PIN: "0x80"}, {_AGE: "99999x80", _PIN: "1x80"})),
    Alert("HotpathQuarantine", "critical", {'quarantined{job="site"}': "1x80"},
          "A generation of site is in quarantine: 'hotpath status' says why", ({'quarantined{job="site"}': "0x80"},)),
    Alert("HotpathStale", "warning", {'stale_items{job="site"}': "3x80"},
          "3 pages of site are past their lifetime, and still served", ({'stale_items{job="site"}': "0x80"},)),
    Alert("HotpathBehindOrigin", "warning", {'origin_lag_seconds{job="site", instance="web-2"}': "0+60x80"},
          "web-2 of site is behind its origin for 20m 0s",
          ({'origin_lag_seconds{job="site", instance="web-2"}': "200x80",
            'origin_look_age_seconds{job="site", instance="web-2"}': "12x80"},), instance="web-2"),
    Alert("HotpathBehindOrigin", "warning", {'origin_look_age_seconds{job="site", instance="web-2"}': "0+60x80"},
          "web-2 of site is behind its origin for 20m 0s",
          ({'origin_look_age_seconds{job="site", instance="web-2"}': "400x80"},), instance="web-2"),
    Alert("HotpathColdErrors", "critical", front("0+54x80", "0+6x80"),
          "10% of the requests for the app of site fail",
          (front("0+99x80", "0+1x80"), front("0x80", "0x80"), front("0+9x80", "0x10 9x80"))),
    Alert("HotpathColdErrors", "critical", front("0+54x80", "0x80", "0+6x80"),
          "10% of the requests for the app of site fail", (front("0+990x80", "0x80", "0+10x80"),)),
    Alert("HotpathAppDown", "critical", {'front_app_up{job="site"}': "0x80"},
          "The app of site is down for a minute; hot pages go on", ({'front_app_up{job="site"}': "1x80"},)),
    Alert("HotpathNotSeen", "critical", {_UP % "front": "0x80", _UP % "app": "0x80"},
          "Prometheus does not reach site", ({_UP % "front": "1x80", _UP % "app": "0x80"},)),
)  # fmt: skip


def rendered(facts: SiteFacts, directory: Path) -> Path:
    """Where ``prometheus.yml`` is."""
    files = WHATS["prometheus"].render(facts)
    write(files, directory)
    return directory / files[0].path


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=60, check=False)


@needs_promtool
@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"has_guard": True}, {"layout": "none"}, {"interval": "1s", "pending": "5s"}])
def test_promtool_takes_it(make_facts: MakeFacts, tmp_path: Path, options: dict[str, Any]) -> None:
    found = promtool("check", "config", str(rendered(make_facts(**options), tmp_path / "root")))
    assert found.returncode == 0, found.stderr
    assert "16 rules found" in found.stdout


@needs_promtool
@pytest.mark.slow
def test_promtool_takes_it_for_a_site_with_an_awkward_path(make_facts: MakeFacts, tmp_path: Path) -> None:
    facts = make_facts(AWKWARD, store=AWKWARD)
    assert promtool("check", "config", str(rendered(facts, tmp_path / "root"))).returncode == 0


def series(given: dict[str, str]) -> list[dict[str, str]]:
    return [
        {"series": name if name.startswith("up{") else f"hotpath_{name}", "values": values}
        for name, values in given.items()
    ]


@needs_promtool
@pytest.mark.slow
def test_every_alert_fires_and_does_not_fire(make_facts: MakeFacts, tmp_path: Path) -> None:
    rules = rendered(make_facts(), tmp_path / "root").parent / "rules" / "site.yml"
    tests = []
    for alert in ALERTS:
        firing = {
            "exp_labels": {
                "job": "site",
                "severity": alert.severity,
                **({"instance": alert.instance} if alert.instance else {}),
            },
            "exp_annotations": {"summary": alert.summary},
        }
        for given, expected in ((alert.fires, [firing]), *((quiet, []) for quiet in alert.quiet)):
            at = {"eval_time": f"{alert.minutes}m", "alertname": alert.name, "exp_alerts": expected}
            tests.append({"interval": "1m", "input_series": series(given), "alert_rule_test": [at]})
    path = tmp_path / "tests.yml"
    path.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "15s", "tests": tests}))
    found = promtool("test", "rules", str(path))
    assert found.returncode == 0, found.stdout + found.stderr


def test_no_alert_is_forgotten(make_facts: MakeFacts) -> None:
    text = WHATS["prometheus"].render(make_facts())[1].text
    names = {line.partition("alert: ")[2] for line in text.splitlines() if "alert: " in line}
    assert names == {alert.name for alert in ALERTS}


@dataclass(frozen=True)
class Watched:
    """A site behind ``hotpath serve`` whose app has a guard, and a Prometheus that looks every second."""

    facts: SiteFacts
    prometheus: int

    def ask(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def get(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.facts.port}{path}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("watched")
    hot = Hotpath(directory / "hot")
    hot.route("/hot")(lambda: {"page": "hot"})
    build(hot)
    port, admin, own = free_port(), free_port(), free_port()
    facts = gather(
        hot, "x:hot", name="shop", port=port, admin=f"127.0.0.1:{admin}", has_guard=True, interval="1s", pending="2s"
    )
    config = rendered(facts, directory / "root")
    environment = {
        **os.environ,
        "HOTPATH_TEST_STORE": str(directory / "hot"),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
        "HOTPATH_RUN": str(directory / "run"),
    }
    serve = [sys.executable, "-m", "hotpath", "serve", "tests.ops.render.leaking_app:app"]
    options = ["--store", str(directory / "hot"), "--port", str(port), "--admin", facts.admin]
    assert PROMETHEUS is not None
    prometheus = [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}"]
    with (
        running([*serve, *options], port, environment),
        running([*prometheus, f"--web.listen-address=127.0.0.1:{own}", "--log.level=error"], own, environment),
    ):
        yield Watched(facts, own)


def until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.3)


@needs_prometheus
@pytest.mark.slow
def test_every_query_of_the_dashboard_has_data(watched: Watched) -> None:
    dashboard = json.loads(WHATS["grafana"].render(watched.facts)[0].text)
    queries = [
        target["expr"].replace("$__rate_interval", "30s")
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]
    assert len(queries) > 25

    def empty() -> list[str]:
        return [query for query in queries if not values(watched, query)]

    def are_all_there() -> bool:
        assert watched.get("/hot") == 200
        watched.get("/cold")
        return not empty()

    try:
        until(are_all_there, 60)
    except AssertionError:
        assert empty() == []


def values(watched: Watched, query: str) -> list[float]:
    """Those that are numbers."""
    found = [float(row["value"][1]) for row in watched.ask("query", query=query)["result"]]
    return [value for value in found if not math.isnan(value)]


@needs_prometheus
@pytest.mark.slow
def test_the_memory_of_a_leaking_app_fires_the_alert(watched: Watched) -> None:
    def firing() -> set[str]:
        return {row["labels"]["alertname"] for row in watched.ask("alerts")["alerts"] if row["state"] == "firing"}

    until(lambda: watched.get("/cold") == 404, 30)
    assert "HotpathMemory80" not in firing()
    assert watched.get("/leak") == 200
    until(lambda: "HotpathMemory80" in firing(), 60)
    assert watched.get("/hot") == 200
