"""A warm-up that asks a WSGI or ASGI application for pages, without a network.

    warm(app, ["/", "/health"])

    WSGI   app(environ, start_response), twice for each path; the answer is read and closed
    ASGI   lifespan startup; scope http, twice for each path; lifespan shutdown

What the application opened for it is closed afterwards, where that can be known: the connections of
Django, the pools of SQLAlchemy's engines. A connection that is shared by forked workers mixes up
their answers, so close others in a function of your own, after warm() has returned.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_TIMES = 2  # inline caches need a second call


def warm(
    app: Any, paths: Sequence[str] = ("/",), *, host: str = "localhost", headers: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Request PATHS of APP by GET, in this process.

    Args:
        app: a WSGI or an ASGI application.
        paths: with query strings if you like: "/search?q=x".
        host: the header Host; Django answers 400 to hosts that it does not know (ALLOWED_HOSTS).
        headers: further request headers.

    Returns:
        The status of each path.

    Raises:
        TypeError: APP is no application, or PATHS is one str.
        Exception: whatever the application raises.
    """
    if isinstance(paths, str):
        raise TypeError(f"warm() takes a list of paths: [{paths!r}]")
    if not callable(app):
        raise TypeError(f"warm() takes a WSGI or ASGI application, not {app!r}")
    given = {"Host": host, "User-Agent": "cowfreeze", **(headers or {})}
    try:
        if _is_asgi(app):
            import asyncio

            return asyncio.run(_warm_asgi(app, paths, given))
        return {path: _ask_wsgi(app, path, given) for _ in range(_TIMES) for path in paths}
    finally:
        close_connections()


def _is_asgi(app: Any) -> bool:
    """An ASGI application is a coroutine function, or an object whose __call__ is one."""
    from inspect import iscoroutinefunction

    return iscoroutinefunction(app) or (not isinstance(app, type) and iscoroutinefunction(type(app).__call__))


def _ask_wsgi(app: Callable[..., Any], path: str, headers: Mapping[str, str]) -> int:
    from io import BytesIO, StringIO
    from urllib.parse import unquote_to_bytes

    status = 0

    def start_response(line: str, _: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        nonlocal status
        status = int(line.split(None, 1)[0])
        return lambda data: None

    name, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(name).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": headers["Host"],
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        "wsgi.errors": StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    environ |= {f"HTTP_{key.upper().replace('-', '_')}": value for key, value in headers.items()}
    answer = app(environ, start_response)
    try:
        for _part in answer:
            pass
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
    return status


async def _warm_asgi(app: Callable[..., Any], paths: Sequence[str], headers: Mapping[str, str]) -> dict[str, int]:
    import asyncio

    to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
    lifespan = asyncio.ensure_future(app(scope, to_app.get, from_app.put))
    answer = asyncio.ensure_future(from_app.get())

    async def step(name: str) -> None:
        """Say NAME to the application's lifespan and wait for its answer, or for its end: it may have none."""
        nonlocal answer
        await to_app.put({"type": f"lifespan.{name}"})
        await asyncio.wait((lifespan, answer), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            message = answer.result()
            if message["type"].endswith(".failed"):
                raise RuntimeError(f"the application's lifespan failed: {message.get('message', '')}")
            answer = asyncio.ensure_future(from_app.get())

    try:
        await step("startup")
        return {path: await _ask_asgi(app, path, headers, state) for _ in range(_TIMES) for path in paths}
    finally:
        if not lifespan.done():
            await step("shutdown")
        for task in (lifespan, answer):
            task.cancel()
        await asyncio.gather(lifespan, answer, return_exceptions=True)


async def _ask_asgi(app: Callable[..., Any], path: str, headers: Mapping[str, str], state: dict[str, Any]) -> int:
    from urllib.parse import unquote

    status = 0
    name, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(name),
        "raw_path": name.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(key.lower().encode(), value.encode()) for key, value in headers.items()],
        "client": ("127.0.0.1", 0),
        "server": (headers["Host"], 80),
        "state": state.copy(),
    }
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            return {"type": "http.disconnect"}
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = int(message["status"])

    await app(scope, receive, send)
    return status


def close_connections() -> None:
    """Close what Django and SQLAlchemy hold open: a forked worker must not use its parent's connection.

    Not pools that hold one connection for good: with a database in memory that connection is the data.
    """
    django = sys.modules.get("django.db")
    if django is not None:
        try:
            django.connections.close_all()
        except Exception:  # no settings are configured: then nothing is open
            pass
    engine = getattr(sys.modules.get("sqlalchemy.engine"), "Engine", None)
    if engine is not None:
        for one in [found for found in gc.get_objects() if issubclass(type(found), engine)]:
            if type(one.pool).__name__ not in ("StaticPool", "SingletonThreadPool"):
                one.dispose()
