"""Fill MarketPulse's database: with generated valuations, or with a CSV file of real ones.

    python make_data.py                              # 8,000 made-up stocks on four markets, 60 trading days
    python make_data.py --csv FILE [--market NAME]   # one row for each stock, its columns found by their names

The same seed makes the same data. A value that is missing is NULL, never zero. The database appears whole or not at
all: one that is there already is replaced only when the new one is complete.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import math
import os
import random
import re
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEFAULT_DATABASE = Path(os.environ.get("MARKETPULSE_DATABASE", HERE / "marketpulse.db"))

SCHEMA = """
CREATE TABLE source (text TEXT NOT NULL);
CREATE TABLE stocks (ticker TEXT PRIMARY KEY, market TEXT NOT NULL, name TEXT NOT NULL, sector TEXT) WITHOUT ROWID;
CREATE TABLE valuations (
    ticker TEXT NOT NULL, day TEXT NOT NULL, price REAL, market_cap INTEGER, pe_ratio REAL, pb_ratio REAL,
    PRIMARY KEY (ticker, day)
) WITHOUT ROWID;
"""

Stock = tuple[str, str, str, str | None]  # ticker, market, name, sector
Valuation = tuple[str, str, float | None, int | None, float | None, float | None]


class DataError(Exception):
    """The data cannot be used; the text says why and what to change."""


# --- made-up data ---


@dataclass(frozen=True, slots=True)
class Market:
    """``share`` of all stocks, typical ``price`` and company ``value`` (in the market's currency), style of ticker."""

    share: float
    price: float
    value: float
    numeric: bool


MARKETS = {
    "KOSPI": Market(0.12, 28_000, 6e11, numeric=True),
    "KOSDAQ": Market(0.21, 9_000, 1.5e11, numeric=True),
    "NYSE": Market(0.29, 42, 4e9, numeric=False),
    "NASDAQ": Market(0.38, 18, 8e8, numeric=False),
}
SECTORS = (
    *("Communication Services", "Consumer Discretionary", "Consumer Staples", "Energy", "Financials", "Health Care"),
    *("Industrials", "Information Technology", "Materials", "Real Estate", "Utilities"),
)
SYLLABLES = (
    *("al", "an", "bor", "cal", "dan", "el", "fen", "gar", "hal", "ix", "jor", "kel", "lan"),
    *("mir", "nor", "os", "pel", "quin", "ral", "sol", "tan", "ul", "ver", "win", "yor", "zen"),
)
ENDINGS = ("Corp", "Group", "Holdings", "Industries", "Labs", "Partners", "Systems", "Works")

# Shares of stocks without the value: companies that lose money have no P/E, some publish no book value.
NO_EARNINGS = 0.17
NO_BOOK_VALUE = 0.03

# The last trading day is fixed, so that the same seed gives the same bytes on any day.
LAST_DAY = date(2025, 6, 30)


def generate(tickers: int, days: int, seed: int) -> tuple[str, list[Stock], Iterable[Valuation]]:
    """Source note, stocks and valuations of made-up companies. Raises ``DataError`` for sizes that cannot be made."""
    if not len(MARKETS) <= tickers <= 100_000:
        raise DataError(f"--tickers {tickers}: give {len(MARKETS)} to 100000")
    if not 1 <= days <= 2_000:
        raise DataError(f"--days {days}: give 1 to 2000")
    dice = random.Random(seed)
    counts = {name: max(1, int(tickers * market.share)) for name, market in MARKETS.items()}
    counts["NASDAQ"] += tickers - sum(counts.values())
    numbers = iter(dice.sample(range(100_000), tickers))
    letters = iter(dice.sample(range(26**4), tickers))
    stocks: list[Stock] = []
    for name, market in MARKETS.items():
        for _ in range(counts[name]):
            ticker = f"{next(numbers) * 10:06d}" if market.numeric else _letters(next(letters))
            stocks.append((ticker, name, _company(dice), dice.choice(SECTORS)))
    note = f"Generated data, seed {seed}: no company, price or ratio on these pages is real."
    return note, stocks, _walks(stocks, trading_days(days), dice)


def trading_days(count: int) -> list[str]:
    """The last ``count`` weekdays up to ``LAST_DAY``, oldest first."""
    days: list[str] = []
    day = LAST_DAY
    while len(days) < count:
        if day.weekday() < 5:
            days.append(day.isoformat())
        day -= timedelta(days=1)
    return days[::-1]


def _letters(number: int) -> str:
    text = ""
    for _ in range(4):
        number, rest = divmod(number, 26)
        text = chr(ord("A") + rest) + text
    return text


def _company(dice: random.Random) -> str:
    return "".join(dice.choices(SYLLABLES, k=dice.choice((2, 3)))).title() + " " + dice.choice(ENDINGS)


def _walks(stocks: list[Stock], days: list[str], dice: random.Random) -> Iterator[Valuation]:
    """One random walk for each stock, on top of one for its market."""
    gauss, exp = dice.gauss, math.exp
    moves = {name: [gauss(0.0004, 0.009) for _ in days] for name in MARKETS}
    # The first stock of a market has every value, so that no ranking is empty, however few stocks there are.
    complete = {name: ticker for ticker, name, _, _ in reversed(stocks)}
    for ticker, name, _, _ in stocks:
        market = MARKETS[name]
        price = market.price * exp(gauss(0, 0.9))
        shares = market.value * exp(gauss(0, 1.6)) / price
        always = complete[name] == ticker
        earnings = 0.0 if dice.random() < NO_EARNINGS and not always else price / (14 * exp(gauss(0, 0.6)))
        book = 0.0 if dice.random() < NO_BOOK_VALUE and not always else price / (1.8 * exp(gauss(0, 0.7)))
        for day, move in zip(days, moves[name], strict=True):
            price *= exp(move + gauss(0, 0.018))
            pe_ratio = round(price / earnings, 2) if earnings else None
            pb_ratio = round(price / book, 2) if book else None
            yield ticker, day, round(price, 2), int(price * shares), pe_ratio, pb_ratio


# --- real data ---

# Names of a column as data vendors write it. They are compared by their letters and digits in any case, without "ratio"
# at the end: "P/E", "pe_ratio" and "PE Ratio" are one name.
ALIASES = {
    "ticker": ("symbol", "ticker", "code", "stock code", "ticker symbol"),
    "name": ("name", "company", "company name", "security"),
    "sector": ("sector", "gics sector", "industry"),
    "price": ("price", "close", "last price", "closing price"),
    "market_cap": ("market cap", "market capitalization", "market capitalisation", "mktcap"),
    "pe_ratio": ("price/earnings", "p/e", "price to earnings", "per"),
    "pb_ratio": ("price/book", "p/b", "price to book", "pbr"),
}
NEVER_NEGATIVE = ("price", "market_cap")
NEEDED = ("ticker", "market_cap", "pe_ratio", "pb_ratio")
MISSING = frozenset(("", "-", "–", "n/a", "#n/a", "na", "nan", "nil", "none", "null"))
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
LARGEST = 1e18  # ten thousand times all the world's money, and still an INTEGER of SQLite
PROBLEMS_SHOWN = 10


def load(path: Path, market: str) -> tuple[str, list[Stock], Iterable[Valuation]]:
    """Source note, stocks and valuations of a CSV file, dated with the day the file was last changed (UTC).

    Raises ``DataError``: all bad lines are found in one go, the first ten are named.
    """
    if not re.fullmatch(r"[\w.-]+", market) or not market.strip("."):
        raise DataError(f"--market {market!r}: it is a part of the URL; give letters, digits, '-', '_' or '.'")
    header, lines = _read(path)
    columns = _columns(path, header)
    problems: list[str] = []
    seen: dict[str, int] = {}
    stocks: list[Stock] = []
    valuations: list[Valuation] = []
    try:
        day = datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    for line, cells in lines:
        if len(cells) != len(header):
            problems.append(f"line {line}: {len(cells)} cells, and the header has {len(header)}")
            continue
        row = {field: cells[index].strip() for field, index in columns.items()}
        ticker = row["ticker"]
        if not ticker:
            problems.append(f"line {line}: {header[columns['ticker']]} is empty")
        elif ticker in seen:
            problems.append(f"line {line}: {ticker!r} is on line {seen[ticker]} already")
        seen.setdefault(ticker, line)
        numbers: dict[str, float | None] = {}
        for field in ("price", "market_cap", "pe_ratio", "pb_ratio"):
            try:
                number = numbers[field] = _number(row.get(field, ""))
                if number is not None and number < 0 and field in NEVER_NEGATIVE:
                    raise ValueError(f"{row[field]!r} is below zero")
            except ValueError as error:
                problems.append(f"line {line}: {header[columns[field]]} {error}")
        if problems:
            continue
        cap = numbers["market_cap"]
        stocks.append((ticker, market, row.get("name") or ticker, row.get("sector") or None))
        valuations.append(
            (ticker, day, numbers["price"], None if cap is None else int(cap), numbers["pe_ratio"], numbers["pb_ratio"])
        )
    if not problems:
        problems.extend(_unrankable(header, columns, valuations))
    if problems:
        more = len(problems) - PROBLEMS_SHOWN
        shown = problems[:PROBLEMS_SHOWN] + ([f"… and {more} more"] if more > 0 else [])
        raise DataError("\n  ".join([f"{path} cannot be used:", *shown]))
    return f"From {path.name}, a file last changed on {day}.", stocks, valuations


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each row that is not blank with the number of its (last) line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: this is not UTF-8; save the file as 'CSV UTF-8'") from None
    first = text.lstrip().partition("\n")[0]
    if not first:
        raise DataError(f"{path} is empty; it needs a header and one row for each stock")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from None
    if len(rows) < 2:
        raise DataError(f"{path} has a header and no rows; it needs one row for each stock")
    return [cell.strip() for cell in rows[0][1]], rows[1:]


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    """Which cell holds which field; the aliases that stand first win where a file has several."""
    found = {_bare(name): index for index, name in reversed(list(enumerate(header)))}
    columns = {}
    for field, aliases in ALIASES.items():
        for name in (field, *aliases):
            if _bare(name) in found:
                columns[field] = found[_bare(name)]
                break
    lacking = [field for field in NEEDED if field not in columns]
    if lacking:
        raise DataError(
            "\n  ".join(
                [
                    f"{path} lacks {len(lacking)} of the columns it needs:",
                    *(f"add {field}: a column named {' or '.join(map(repr, ALIASES[field]))}" for field in lacking),
                    f"the columns found are {', '.join(map(repr, header))}",
                ]
            )
        )
    return columns


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).removesuffix("ratio")


def _number(text: str) -> float | None:
    if text.lower() in MISSING:
        return None
    # Not float() alone: it takes "inf" and "1_000". A comma may be a decimal point or not, so nobody guesses.
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is no number; write digits with a '.', or nothing where it is missing")
    if abs(number := float(text)) > LARGEST:
        raise ValueError(f"{text!r} is larger than anything a market has seen")
    return number


def _unrankable(header: list[str], columns: dict[str, int], valuations: list[Valuation]) -> Iterator[str]:
    values = dict(
        zip(("market_cap", "pe_ratio", "pb_ratio"), zip(*(row[3:] for row in valuations), strict=True), strict=True)
    )
    for field, column in values.items():
        if not any(value is not None and value > 0 for value in column):
            yield f"no row has a {header[columns[field]]} above zero, so there is nothing to rank by it"


# --- the database ---


def write(database: Path, note: str, stocks: Iterable[Stock], valuations: Iterable[Valuation]) -> int:
    """Write a new database in place of the old one; how many valuations it holds."""
    unfinished = database.with_name(f"{database.name}.{os.getpid()}.tmp")
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(unfinished)) as connection:
            # Nothing to protect: the file gets its name when it is complete.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(SCHEMA)
            with connection:
                connection.execute("INSERT INTO source VALUES (?)", (note,))
                connection.executemany("INSERT INTO stocks VALUES (?, ?, ?, ?)", stocks)
                cursor = connection.executemany("INSERT INTO valuations VALUES (?, ?, ?, ?, ?, ?)", valuations)
                connection.execute("CREATE INDEX valuations_by_day ON valuations (day)")
            count = cursor.rowcount
        unfinished.replace(database)
    except (OSError, sqlite3.Error) as error:
        raise DataError(f"{database} cannot be written: {error}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fill MarketPulse's database.")
    parser.add_argument("--database", type=Path, default=DEFAULT_DATABASE, help="default: %(default)s")
    parser.add_argument("--csv", type=Path, help="load this file instead of making data")
    parser.add_argument("--market", default="CSV", help="what to call the market of --csv (default: %(default)s)")
    parser.add_argument("--tickers", type=int, default=8_000, help="how many stocks to make (default: %(default)s)")
    parser.add_argument("--days", type=int, default=60, help="how many trading days (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other data (default: %(default)s)")
    given = parser.parse_args(arguments)
    try:
        made = load(given.csv, given.market) if given.csv else generate(given.tickers, given.days, given.seed)
        count = write(given.database, *made)
    except DataError as error:
        print(f"make_data: {error}", file=sys.stderr)
        return 1
    print(f"{count:,} valuations of {len(made[1]):,} stocks in {given.database}. {made[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
