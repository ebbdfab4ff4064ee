"""Its pages."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from .shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("articles/<int:number>/", views.article),
    path("search/", views.search),
    path("orders/", views.orders),
    path("totals/", views.totals),
    path("statistics/", views.statistics),
]
