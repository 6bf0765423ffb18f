"""The views: they answer what is not hot, and everything before the first build."""

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render

from screener.models import Stock
from screener.rankings import METRICS, markets, rank


def index(request: HttpRequest) -> HttpResponse:
    return render(request, "screener/index.html", {"markets": markets(), "metrics": METRICS})


def ranking(request: HttpRequest, market: str, metric: str) -> HttpResponse:
    if metric not in METRICS or market not in markets():
        raise Http404("no such ranking")
    return JsonResponse(rank(market, metric))


def stock(request: HttpRequest, ticker: str) -> HttpResponse:
    found = get_object_or_404(Stock, ticker=ticker)
    return JsonResponse({"ticker": found.ticker, "name": found.name, "market_cap": found.market_cap})
