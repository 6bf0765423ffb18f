"""Made-up sites, night after night: how their tables grow, rest and go wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

DAY = 86400
START = 1_767_578_400  # a Monday, 02:00 UTC
SECTORS = [f"Sector {number}" for number in range(11)]

Row = dict[str, Any]


@dataclass
class Site:
    """A table of stocks. ``rows_of`` says how many there are on a night; ``rests`` whether it sleeps at weekends."""

    name: str
    rows_of: Callable[[random.Random, int, int], int]
    first_rows: int
    rests: bool = False
    chance: random.Random = field(default_factory=random.Random)
    stocks: list[Row] = field(default_factory=list)
    made: int = 0
    wanted: int = 0

    def nights(self, count: int, seed: int) -> Iterator[tuple[int, list[Row]]]:
        """The time of each run and the rows a right batch finds."""
        # Not hash(): it is another one in each process.
        self.chance = random.Random(f"{self.name} {seed}")
        self.wanted = self.first_rows
        source = START
        for night in range(count):
            at = START + night * DAY
            weekend = night % 7 in (5, 6)
            if not (self.rests and weekend):
                source = at - 6 * 3600
                self.trade()
            self.wanted = self.rows_of(self.chance, night, self.wanted)
            while len(self.stocks) < self.wanted:
                self.stocks.append(self.list_one())
            shown = max(1, int(self.wanted * 0.7)) if self.rests and weekend else self.wanted
            yield at, [{**row, "day": source} for row in self.stocks[:shown]]

    def list_one(self) -> Row:
        self.made += 1
        return {
            "ticker": f"T{self.made:05d}",
            "sector": SECTORS[self.made * 7 % 11],
            "price": round(self.chance.lognormvariate(3.5, 1.2), 2),
            "market_cap": int(self.chance.lognormvariate(22, 2)),
            "pe": None if self.chance.random() < 0.17 else round(self.chance.lognormvariate(2.8, 0.6), 1),
        }

    def trade(self) -> None:
        for row in self.stocks:
            change = self.chance.lognormvariate(0, 0.02)
            row["price"] = round(row["price"] * change, 2)
            row["market_cap"] = int(row["market_cap"] * change)
            if self.chance.random() < 0.02:  # the night of its quarterly figures
                row["pe"] = None if self.chance.random() < 0.17 else round(self.chance.lognormvariate(2.8, 0.6), 1)


def growing(share: float) -> Callable[[random.Random, int, int], int]:
    return lambda chance, night, wanted: max(wanted, int(300 * (1 + share) ** night * chance.gauss(1, 0.002)))


def flat(chance: random.Random, night: int, wanted: int) -> int:
    return int(300 * chance.gauss(1, 0.01))


def stepping(chance: random.Random, night: int, wanted: int) -> int:
    return int(wanted * 1.2) if chance.random() < 0.01 else wanted


def small(chance: random.Random, night: int, wanted: int) -> int:
    return min(30, max(12, wanted + chance.choice((-1, 0, 0, 0, 1))))


def sites() -> list[Site]:
    """Those of the simulation."""
    return [
        Site("grows 0.1 % a day", growing(0.001), 300),
        Site("grows 0.4 % a day", growing(0.004), 300),
        Site("grows 0.6 % a day", growing(0.006), 300),
        Site("rests at weekends", lambda chance, night, wanted: 300, 300, rests=True),
        Site("flat, 1 % noise", flat, 300),
        Site("grows in steps", stepping, 300),
        Site("small, 12 to 30 rows", small, 20),
    ]


# Incidents: the rows of a right batch → what a wrong one finds.


def missing_sector(rows: list[Row], yesterday: list[Row], chance: random.Random) -> list[Row]:
    """The largest one: in a table of twelve the smallest has a single row."""
    counts = {sector: sum(row["sector"] == sector for row in rows) for sector in SECTORS}
    gone = max(counts, key=lambda sector: counts[sector])
    return [row for row in rows if row["sector"] != gone]


def half_the_rows(rows: list[Row], yesterday: list[Row], chance: random.Random) -> list[Row]:
    return rows[: len(rows) // 2]


def null_column(rows: list[Row], yesterday: list[Row], chance: random.Random) -> list[Row]:
    return [{**row, "pe": None} for row in rows]


def column_gone(rows: list[Row], yesterday: list[Row], chance: random.Random) -> list[Row]:
    return [{name: value for name, value in row.items() if name != "pe"} for row in rows]


def stale_source(rows: list[Row], yesterday: list[Row], chance: random.Random) -> list[Row]:
    return yesterday


def shifted_text(rows: list[Row], yesterday: list[Row], chance: random.Random) -> list[Row]:
    return [{**row, "sector": other["sector"]} for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]


def shifted_number(rows: list[Row], yesterday: list[Row], chance: random.Random) -> list[Row]:
    return [{**row, "market_cap": other["market_cap"]} for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]


def duplicated(rows: list[Row], yesterday: list[Row], chance: random.Random) -> list[Row]:
    return rows + rows[: len(rows) // 3]


def empty(rows: list[Row], yesterday: list[Row], chance: random.Random) -> list[Row]:
    return []


INCIDENTS = (
    *(missing_sector, half_the_rows, null_column, column_gone, stale_source),
    *(shifted_text, shifted_number, duplicated, empty),
)
