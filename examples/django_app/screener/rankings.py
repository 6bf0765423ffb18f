"""The rankings, for the views and for the batch."""

from typing import Any

from screener.models import Stock

# The order in which a metric is ranked; a loss has no P/E.
METRICS = {"market_cap": "-market_cap", "pe_ratio": "pe_ratio"}
ROWS = 100


def markets() -> list[str]:
    """Every market there is."""
    return list(Stock.objects.order_by("market").values_list("market", flat=True).distinct())


def rank(market: str, metric: str) -> dict[str, Any]:
    """The first hundred of a market by one metric; no items where there is no such market."""
    rows = Stock.objects.filter(market=market, **{f"{metric}__gt": 0}).order_by(METRICS[metric], "ticker")
    items = list(rows.values("ticker", "name", "market_cap", "pe_ratio")[:ROWS])
    return {"market": market, "metric": metric, "items": items}
