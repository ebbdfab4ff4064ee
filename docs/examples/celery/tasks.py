"""A Celery application with its broker in a folder; FREEZE=1 connects cowfreeze."""

import gc
import os
from pathlib import Path

from celery import Celery

WORDS = {f"word {number}": [f"place {number}", str(number)] for number in range(60_000)}

folder = os.environ["TASKS_FOLDER"]
for name in ("queue", "control", "results"):
    Path(folder, name).mkdir(exist_ok=True)

app = Celery("tasks", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
}
app.conf.worker_prefetch_multiplier = 1

if os.environ.get("FREEZE"):
    import cowfreeze.integrations.celery

    cowfreeze.integrations.celery.setup()


@app.task
def read():
    total = sum(len(places[0]) for places in WORDS.values())
    gc.collect()
    return os.getpid(), total
