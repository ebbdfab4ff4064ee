"""A WSGI application that answers from a table which is loaded once."""

import gc
import os

WORDS = {f"word {number}": [f"place {number}", str(number)] for number in range(60_000)}


def application(environ, start_response):
    total = sum(len(places[0]) for places in WORDS.values())
    gc.collect()  # as any server does sooner or later
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {total}".encode()]
