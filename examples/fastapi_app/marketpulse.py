"""MarketPulse, a small stock screener: its rankings are hot pages, its stock pages and its search are not.

First `python make_data.py`, then `hotpath build marketpulse:hot`, which precomputes the hot pages into var/hot. From
then on `uvicorn marketpulse:app` answers them from there; everything else reaches the app below. See README.md.
"""

import os
import sqlite3
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route

from hotpath import Hotpath, HotpathMiddleware, MemoryGuard, cached
from hotpath.asgi import HealthEndpoints
from hotpath.batch import sqlite_snapshot
from hotpath.metrics import MetricsApp

HERE = Path(__file__).resolve().parent
SITE = os.environ.get("MARKETPULSE_SITE", "https://marketpulse.example").rstrip("/")

# The order in which a metric is ranked. Only values above zero are: a loss has no P/E, a negative equity no P/B.
METRICS = {"market_cap": "DESC", "pe_ratio": "ASC", "pb_ratio": "ASC"}
COLUMNS = "ticker, name, market, sector, day, price, market_cap, pe_ratio, pb_ratio"
TABLE = "valuations JOIN stocks USING (ticker)"
LATEST = "day = (SELECT max(day) FROM valuations)"

hot = Hotpath(os.environ.get("MARKETPULSE_STORE", HERE / "var" / "hot"))
guard = MemoryGuard()  # the limit is the container's, the unit's or the machine's
api = FastAPI(title="MarketPulse", routes=[Route("/metrics", MetricsApp(guard=guard, hot=hot))])

# The batch sees the database as it was when the run began, whoever writes to it meanwhile; the app sees it as it is.
database = sqlite_snapshot(os.environ.get("MARKETPULSE_DATABASE", HERE / "marketpulse.db"))


def select(sql: str, *parameters: object) -> list[dict[str, Any]]:
    with database.connect() as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql, parameters)]


def every_ranking() -> Iterator[dict[str, str]]:
    """The parameters of each hot ranking. The markets come from the data, so a new one needs no change here."""
    for row in select("SELECT DISTINCT market FROM stocks ORDER BY market"):
        yield from ({"market": row["market"], "metric": metric} for metric in METRICS)


# One function for both: the batch calls it for each market and metric, FastAPI where no generation has the page.
# With ?sector= the request is another one than the page that was precomputed, and goes to the app.
@api.get("/rankings/{market}/{metric}")
@hot.route("/rankings/{market}/{metric}", each=every_ranking, records="items", required=("ticker", "name"))
def rankings(market: str, metric: str, sector: str | None = None) -> dict[str, Any]:
    if metric not in METRICS:
        raise HTTPException(404, f"no metric {metric!r}; there are {', '.join(METRICS)}")
    where = f"{LATEST} AND market = ? AND ifnull(sector = ?, ?) AND {metric} > 0 ORDER BY {metric} {METRICS[metric]}"
    items = select(f"SELECT {COLUMNS} FROM {TABLE} WHERE {where}, ticker LIMIT 100", market, sector, sector is None)
    if not items:
        raise HTTPException(404, "no such market, or nothing in it to rank")
    return {"market": market, "metric": metric, "day": items[0]["day"], "items": items}


@api.get("/", response_class=HTMLResponse)
@hot.route("/", media_type="text/html")
def index() -> str:
    rows = ""
    for row in select(f"SELECT market, count(*) AS n, max(day) AS day FROM {TABLE} WHERE {LATEST} GROUP BY market"):
        links = (f'<td><a href="/rankings/{quote(row["market"])}/{metric}">{metric}</a>' for metric in METRICS)
        rows += f"<tr><th>{escape(row['market'])}<td>{row['n']:,} stocks<td>{row['day']}{''.join(links)}"
    source = escape(select("SELECT text FROM source")[0]["text"])
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>MarketPulse</title>'
    return f"{head}<h1>MarketPulse</h1><table>{rows}</table><p>{source}</p></html>\n"


@api.get("/robots.txt", response_class=PlainTextResponse)
@hot.route("/robots.txt")
def robots() -> str:
    return f"User-agent: *\nAllow: /\nSitemap: {SITE}/sitemap.xml\n"


@api.get("/sitemap.xml", response_class=type("XMLResponse", (Response,), {"media_type": "application/xml"}))
@hot.route("/sitemap.xml", media_type="application/xml")
def sitemap() -> str:
    paths = ["/", *(f"/rankings/{quote(one['market'])}/{one['metric']}" for one in every_ranking())]
    urls = "".join(f"<url><loc>{escape(SITE + path)}</loc></url>\n" for path in paths)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
    return f"{head}\n{urls}</urlset>\n"


# From here on nothing is hot: too many pages to precompute, or too many questions to know in advance.
@cached(ttl=300, max_entries=1000, stale_if_error=3600)
def median_pe(market: str, sector: str | None) -> float | None:
    """Of a sector, for all its stocks: asked of the database once in five minutes, and never held without a bound."""
    where = f"{LATEST} AND market = ? AND sector IS ? AND pe_ratio > 0"
    found = select(f"SELECT pe_ratio FROM {TABLE} WHERE {where} ORDER BY pe_ratio", market, sector)
    return found[len(found) // 2]["pe_ratio"] if found else None


@api.get("/stocks/{ticker:path}")  # a path, since some tickers have a slash: BRK/B
def stock(ticker: str) -> dict[str, Any]:
    days = select(f"SELECT {COLUMNS} FROM {TABLE} WHERE ticker = ? ORDER BY day DESC", ticker)
    if not days:
        raise HTTPException(404, f"no stock {ticker!r}")
    return {"latest": days[0], "sector_pe": median_pe(days[0]["market"], days[0]["sector"]), "history": days[1:]}


@api.get("/search")
def search(q: str) -> dict[str, Any]:
    where = f"{LATEST} AND instr(lower(name), lower(?)) ORDER BY name LIMIT 20"
    return {"query": q, "items": select(f"SELECT {COLUMNS} FROM {TABLE} WHERE {where}", q)}


# Outermost, so that a hot page is answered before the app, or any middleware of it, is asked.
served = HotpathMiddleware(api, hot=hot, guard=guard)
app = HealthEndpoints(served, hot=hot, guard=guard, critical=("/", "/sitemap.xml", "/robots.txt"))
