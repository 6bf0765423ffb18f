"""The project's own tests: ``SCREENER_STORE=$(mktemp -d)/hot python manage.py test``."""

import asyncio

from django.core.management import call_command
from django.db import connection
from django.test import TestCase, TransactionTestCase

from hotpath.contrib.django import get_asgi_application, hot
from hotpath.serving import reader_of
from hotpath.testing import Response, asgi_get
from screener.models import Stock
from screener.rankings import rank


class Views(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        call_command("make_data", stocks=40, verbosity=0)

    def test_they_answer_what_no_build_has_made(self) -> None:
        self.assertEqual(self.client.get("/rankings/NYSE/market_cap").json(), rank("NYSE", "market_cap"))

    def test_unknown_rankings_are_not_found(self) -> None:
        self.assertEqual(self.client.get("/rankings/NYSE/colour").status_code, 404)
        self.assertEqual(self.client.get("/rankings/MOON/market_cap").status_code, 404)


# The batch works in a process of its own, which cannot see what a TestCase has not committed.
class HotPages(TransactionTestCase):
    def setUp(self) -> None:
        call_command("make_data", stocks=40, verbosity=0)
        call_command("hotpath", "build")
        self.addCleanup(reader_of(hot).close)

    def get(self, path: str) -> Response:
        reader_of(hot).refresh()
        return asyncio.run(asgi_get(get_asgi_application(), path))

    def test_the_batch_has_what_the_views_say(self) -> None:
        hot_page = self.get("/rankings/NYSE/market_cap")
        self.assertEqual(hot_page.header("x-hotpath-generation"), str(reader_of(hot).snapshot.generation))
        self.assertJSONEqual(hot_page.body.decode(), rank("NYSE", "market_cap"))
        self.assertHTMLEqual(self.get("/").body.decode(), self.client.get("/").content.decode())

    def test_hot_pages_stand_while_the_database_is_empty(self) -> None:
        before = self.get("/rankings/NYSE/market_cap")
        Stock.objects.all().delete()
        self.assertEqual(self.get("/rankings/NYSE/market_cap").body, before.body)
        self.assertEqual(self.client.get("/rankings/NYSE/market_cap").status_code, 404)

    def test_hot_pages_ask_the_database_nothing(self) -> None:
        with self.assertNumQueries(0, using=connection.alias):
            self.assertEqual(self.get("/").status, 200)
