"""The data of one fold of a training, and what a worker does with them."""

import gc
import os
import time

kept = None


def load(fold):
    return [{"id": number, "box": [number, number + fold], "label": f"class {number % 80}"} for number in range(60_000)]


def read(data):
    rows = kept if data is None else data
    total = sum(len(row["box"]) + len(row["label"]) for row in rows)
    gc.collect()
    time.sleep(0.05)  # so that the other worker takes a part of the work
    return os.getpid(), total
