"""Two reports, for which SQLAlchemy and pandas are imported as at any ordinary boot."""

from __future__ import annotations

import statistics
from typing import Any

import sqlalchemy
import sqlalchemy.orm
import sqlalchemy.pool

from . import table

try:
    import pandas
    PANDAS_MISSING = None
except ImportError as error:  # no wheel for this Python
    pandas = None
    PANDAS_MISSING = f"pandas cannot be imported ({error}); its report is made with `statistics`"

_engine: Any = None
_prices: Any = None
_orders = sqlalchemy.table(
    "shop_order", sqlalchemy.column("customer_id"), sqlalchemy.column("amount"), sqlalchemy.column("price")
)
_customers = sqlalchemy.table("shop_customer", sqlalchemy.column("id"), sqlalchemy.column("city"))


def load(database: str) -> None:
    """Open nothing yet: connections are made and closed by each request."""
    global _engine, _prices
    _engine = sqlalchemy.create_engine(f"sqlite:///{database}", poolclass=sqlalchemy.pool.NullPool)
    rows = table.ROWS.values()
    columns = {"price": [row["price"] for row in rows], "weight": [row["weight"] for row in rows]}
    _prices = columns if pandas is None else pandas.DataFrame(columns)


def totals() -> dict[str, float]:
    """Turnover by city."""
    query = (
        sqlalchemy.select(_customers.c.city, sqlalchemy.func.sum(_orders.c.amount * _orders.c.price))
        .join_from(_orders, _customers, _customers.c.id == _orders.c.customer_id)
        .group_by(_customers.c.city)
    )
    with _engine.connect() as connection:
        return {city: float(total) for city, total in connection.execute(query)}


def describe(start: int) -> dict[str, float]:
    """Key figures of the prices of 1,000 articles from START on."""
    if pandas is None:
        prices = _prices["price"][start : start + 1000]
        return {"mean": statistics.fmean(prices), "std": statistics.stdev(prices)}
    return {str(name): float(value) for name, value in _prices["price"].iloc[start : start + 1000].describe().items()}
