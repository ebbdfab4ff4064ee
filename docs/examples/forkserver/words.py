"""Data as a module's global: what a fork server loads, its workers share."""

import gc
import os
import time

WORDS = {f"word {number}": [f"place {number}", str(number)] for number in range(60_000)}


def read(_):
    total = sum(len(places[0]) for places in WORDS.values())
    gc.collect()
    time.sleep(0.05)  # so that the other worker takes a part of the work
    return os.getpid(), total
