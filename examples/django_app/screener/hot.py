"""The hot pages: ``manage.py hotpath build`` runs these functions once, and requests for them never reach Django."""

from collections.abc import Iterator
from typing import Any

from django.template.loader import render_to_string

from hotpath.contrib.django import hot
from screener.rankings import METRICS, markets, rank


def every_ranking() -> Iterator[dict[str, str]]:
    for market in markets():
        for metric in METRICS:
            yield {"market": market, "metric": metric}


@hot.route("/rankings/{market}/{metric}", each=every_ranking, records="items", required=("ticker", "name"))
def ranking(market: str, metric: str) -> dict[str, Any]:
    return rank(market, metric)


@hot.route("/", media_type="text/html")
def index() -> str:
    return render_to_string("screener/index.html", {"markets": markets(), "metrics": METRICS})
