"""MarketPulse, a small stock screener: its rankings are hot pages, its stock pages and its search are not.

    python make_data.py               # fills marketpulse.db
    hotpath build marketpulse:hot     # precomputes the hot pages into var/hot
    uvicorn marketpulse:app           # answers them from there; everything else reaches the app below

MARKETPULSE_DATABASE, MARKETPULSE_STORE and MARKETPULSE_SITE change where its files are and how it calls itself.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import HTMLResponse, PlainTextResponse

from hotpath import Hotpath, HotpathMiddleware

HERE = Path(__file__).resolve().parent
DATABASE = Path(os.environ.get("MARKETPULSE_DATABASE", HERE / "marketpulse.db")).absolute()
SITE = os.environ.get("MARKETPULSE_SITE", "https://marketpulse.example").rstrip("/")

# The order in which a metric is ranked. Only values above zero are: a loss has no P/E, a negative equity no P/B.
METRICS = {"market_cap": "DESC", "pe_ratio": "ASC", "pb_ratio": "ASC"}
ROWS = 100

COLUMNS = "ticker, name, market, sector, day, price, market_cap, pe_ratio, pb_ratio"
TABLE = "valuations JOIN stocks USING (ticker)"
LATEST = "day = (SELECT max(day) FROM valuations)"

hot = Hotpath(os.environ.get("MARKETPULSE_STORE", HERE / "var" / "hot"))
api = FastAPI(title="MarketPulse")


class XMLResponse(Response):
    media_type = "application/xml"


def select(sql: str, *parameters: object) -> list[dict[str, Any]]:
    # Read-only, so that a database that is gone is an error; by default SQLite would make an empty one.
    with closing(sqlite3.connect(f"{DATABASE.as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql, parameters)]


def every_ranking() -> Iterator[dict[str, str]]:
    """The parameters of each hot ranking. The markets come from the data, so a new one needs no change here."""
    for row in select("SELECT DISTINCT market FROM stocks ORDER BY market"):
        for metric in METRICS:
            yield {"market": row["market"], "metric": metric}


# One function for both: the batch calls it for each market and metric, FastAPI where no generation has the page.
# With ?sector= the request is another one than the page that was precomputed, and goes to the app.
@api.get("/rankings/{market}/{metric}")
@hot.route("/rankings/{market}/{metric}", each=every_ranking, records="items", required=("ticker", "name"))
def rankings(market: str, metric: str, sector: str | None = None) -> dict[str, Any]:
    if metric not in METRICS:
        raise HTTPException(404, f"no metric {metric!r}; there are {', '.join(METRICS)}")
    items = select(
        f"SELECT {COLUMNS} FROM {TABLE} WHERE {LATEST} AND market = ? AND (? IS NULL OR sector = ?) AND {metric} > 0"
        f" ORDER BY {metric} {METRICS[metric]}, ticker LIMIT {ROWS}",
        *(market, sector, sector),
    )
    if not items:
        raise HTTPException(404, "no such market, or nothing in it to rank")
    return {"market": market, "metric": metric, "day": items[0]["day"], "items": items}


@api.get("/", response_class=HTMLResponse)
@hot.route("/", media_type="text/html")
def index() -> str:
    markets = select(f"SELECT market, count(*) AS stocks, max(day) AS day FROM {TABLE} WHERE {LATEST} GROUP BY market")
    rows = "".join(
        f"<tr><th>{escape(row['market'])}<td>{row['stocks']:,} stocks<td>{row['day']}"
        + "".join(f'<td><a href="{ranking_path(row["market"], metric)}">{metric}</a>' for metric in METRICS)
        for row in markets
    )
    source = escape(select("SELECT text FROM source")[0]["text"])
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>MarketPulse</title>'
    return f"{head}<h1>MarketPulse</h1><table>{rows}</table><p>{source}</p></html>\n"


@api.get("/robots.txt", response_class=PlainTextResponse)
@hot.route("/robots.txt")
def robots() -> str:
    return f"User-agent: *\nAllow: /\nSitemap: {SITE}/sitemap.xml\n"


@api.get("/sitemap.xml", response_class=XMLResponse)
@hot.route("/sitemap.xml", media_type="application/xml")
def sitemap() -> str:
    paths = ["/", *(ranking_path(**ranking) for ranking in every_ranking())]
    urls = "".join(f"<url><loc>{escape(SITE + path)}</loc></url>\n" for path in paths)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
    return f"{head}\n{urls}</urlset>\n"


# From here on nothing is hot: too many pages to precompute, or too many questions to know in advance.
@api.get("/stocks/{ticker:path}")  # a path, since some tickers have a slash: BRK/B
def stock(ticker: str) -> dict[str, Any]:
    days = select(f"SELECT {COLUMNS} FROM {TABLE} WHERE ticker = ? ORDER BY day DESC", ticker)
    if not days:
        raise HTTPException(404, f"no stock {ticker!r}")
    return {"latest": days[0], "history": [{"day": day["day"], "price": day["price"]} for day in days]}


@api.get("/search")
def search(q: str) -> dict[str, Any]:
    found = select(
        f"SELECT {COLUMNS} FROM {TABLE} WHERE {LATEST} AND instr(lower(name), lower(?)) ORDER BY name LIMIT 20", q
    )
    return {"query": q, "items": found}


def ranking_path(market: str, metric: str) -> str:
    return f"/rankings/{quote(market)}/{metric}"


# Outermost, so that a hot page is answered before the app, or any middleware of it, is asked.
app = HotpathMiddleware(api, hot=hot)
