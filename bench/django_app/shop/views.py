"""The pages: an article from memory, orders from sqlite, two kinds of reports."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from .. import table
from .models import Order


def article(request: HttpRequest, number: int) -> HttpResponse:
    """One article and its neighbours, out of the table in memory."""
    row = table.ROWS.get(number)
    if row is None:
        raise Http404(f"no article {number}")
    related = [table.ROWS[n] for n in range(number + 1, number + 6) if n in table.ROWS]
    return render(request, "shop/article.html", {"row": row, "related": related})


def search(request: HttpRequest) -> JsonResponse:
    """Articles of one group, as JSON."""
    group = request.GET.get("group", "")
    found = [
        {"id": row["id"], "name": row["name"], "price": row["price"], "tags": row["tags"]}
        for row in table.GROUPS.get(group, ())[:20]
    ]
    return JsonResponse({"group": group, "found": found})


def orders(request: HttpRequest) -> HttpResponse:
    """The last orders of a city, through the ORM."""
    city = request.GET.get("city", "")
    found = Order.objects.select_related("customer").filter(customer__city=city)[:10]
    return render(request, "shop/orders.html", {"orders": found, "city": city})


def totals(request: HttpRequest) -> JsonResponse:
    """Sums by city, through SQLAlchemy."""
    from .. import reports

    return JsonResponse({"totals": reports.totals()})


def statistics(request: HttpRequest) -> JsonResponse:
    """Key figures of a part of the table, through pandas."""
    from .. import reports

    return JsonResponse({"figures": reports.describe(int(request.GET.get("from", "0")))})
