"""Fill the database with made-up stocks: ``manage.py make_data --stocks 2000``."""

import random
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from screener.models import Stock

MARKETS = ("KOSPI", "KOSDAQ", "NYSE", "NASDAQ")
NO_EARNINGS = 0.17  # companies that lose money have no P/E


class Command(BaseCommand):
    help = "Fill the database with made-up stocks; the same seed makes the same data."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--stocks", type=int, default=2_000)
        parser.add_argument("--seed", type=int, default=1)

    @transaction.atomic
    def handle(self, *args: Any, stocks: int, seed: int, **options: Any) -> None:
        chance = random.Random(seed)
        Stock.objects.all().delete()
        Stock.objects.bulk_create(
            Stock(
                ticker=f"{MARKETS[number % 4][0]}{number:05d}",
                market=MARKETS[number % 4],
                name=f"Company {number}",
                market_cap=int(chance.lognormvariate(22, 2)),
                pe_ratio=None if chance.random() < NO_EARNINGS else round(chance.lognormvariate(2.8, 0.6), 2),
            )
            for number in range(stocks)
        )
        self.stdout.write(f"{stocks} stocks on {len(MARKETS)} markets")
