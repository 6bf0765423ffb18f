"""Every page has its view, hot or not: what hotpath does not have, Django answers."""

from django.urls import path

from screener import views

urlpatterns = [
    path("", views.index),
    path("rankings/<str:market>/<str:metric>", views.ranking, name="ranking"),
    path("stocks/<str:ticker>", views.stock, name="stock"),
]
