"""Boot the application and send it requests, in this process and without a socket."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any

CUSTOMERS = 200
ORDERS = 2_000
CITIES = ("Aachen", "Bergen", "Cork", "Delft", "Evora")


def create_database(path: str) -> str:
    """Fill a new sqlite file. Returns the session key of a logged-in administrator.

    Run it in a process of its own: what migrations load is no part of a serving application.
    """
    _set_up(path)
    from datetime import datetime, timedelta, timezone

    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command
    from django.db import connection

    from .shop.models import Customer, Order

    call_command("migrate", run_syncdb=True, verbosity=0)
    admin = User.objects.create_superuser("admin", "admin@example.org", "secret")
    Customer.objects.bulk_create(
        Customer(name=f"customer {n}", city=CITIES[n % len(CITIES)]) for n in range(CUSTOMERS)
    )
    customers = list(Customer.objects.all())
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    Order.objects.bulk_create(
        Order(
            customer=customers[n % CUSTOMERS],
            article=n * 7,
            amount=n % 5 + 1,
            price=f"{n % 90}.50",
            placed=start + timedelta(minutes=n),
        )
        for n in range(ORDERS)
    )
    session = SessionStore()
    session[SESSION_KEY] = str(admin.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = admin.get_session_auth_hash()
    session.create()
    connection.close()
    return str(session.session_key)


def _set_up(database: str) -> None:
    import django

    os.environ["BENCH_DJANGO_DATABASE"] = database
    os.environ["DJANGO_SETTINGS_MODULE"] = "django_app.settings"
    django.setup()


class Application:
    """The booted application.

    Args:
        database: path of the sqlite file made by `create_database`.
        session: the session key it returned.
        mix: which requests `serve` sends, "usual" or "all".
    """

    def __init__(self, database: str, session: str, mix: str = "usual") -> None:
        _set_up(database)
        from django.core.wsgi import get_wsgi_application

        from . import reports, table

        table.load()
        reports.load(database)
        self.pandas_missing: str | None = reports.PANDAS_MISSING
        self._handler: Callable[..., Any] = get_wsgi_application()
        self._mix = mix
        self._cookie = f"sessionid={session}"
        self._entries = len(table.ROWS)
        self._groups = table.N_GROUPS

    def close_connections(self) -> None:
        """A database connection must not be shared with a child; servers close theirs too."""
        from django.db import connections

        connections.close_all()

    def get(self, path: str, query: str = "", *, logged_in: bool = False) -> int:
        """Serve one GET request to the last byte. Returns the length of the answer.

        Raises RuntimeError for any status but 200.
        """
        status: list[str] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "testserver",
            "HTTP_ACCEPT": "text/html,application/json",
            "HTTP_USER_AGENT": "bench",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        if logged_in:
            environ["HTTP_COOKIE"] = self._cookie

        def start_response(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            status.append(line)

        response = self._handler(environ, start_response)
        try:
            length = sum(len(part) for part in response)
        finally:
            response.close()
        if status != ["200 OK"]:
            raise RuntimeError(f"{path}?{query}: {status}")
        return length

    def serve(self, number: int) -> None:
        """Request NUMBER of the mix.

        Of 100 requests of the mix "usual" 87 are articles, 10 order lists (ORM, sqlite), 2
        admin logins and 1 a pandas report. The mix "all" has searches, admin lists and an
        SQLAlchemy report as well: nearly twice as much code runs.
        """
        part = number % 100
        row = number * 7919 % (self._entries - 1000)
        everything = self._mix == "all"
        if part == 99:
            self.get("/statistics/", f"from={row}")
        elif part in (47, 97):
            self.get("/admin/login/", "next=/admin/")
        elif part % 10 == 5:
            self.get("/orders/", f"city={CITIES[number % len(CITIES)]}")
        elif everything and part == 98:
            self.get("/totals/")
        elif everything and part in (30, 60, 90):
            self.get("/admin/shop/order/", f"p={number // 30 % 50 + 1}", logged_in=True)
        elif everything and part % 10 == 3:
            self.get("/search/", f"group=group+{row % self._groups}")
        else:
            self.get(f"/articles/{row}/")

    def warm_up(self, rounds: int = 2) -> None:
        """Every kind of request, ROUNDS times: what a freeze wants to have run before it."""
        for number in range(rounds * 100):
            self.serve(number)
        self.close_connections()
