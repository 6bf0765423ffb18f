"""What is known of a stock."""

from django.db import models


class Stock(models.Model):
    ticker = models.CharField(max_length=12, primary_key=True)
    market = models.CharField(max_length=12, db_index=True)
    name = models.CharField(max_length=80)
    market_cap = models.BigIntegerField(null=True)
    pe_ratio = models.FloatField(null=True)

    def __str__(self) -> str:
        return self.ticker
