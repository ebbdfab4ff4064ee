"""A Celery application whose broker comes from the environment; SETUP=1 connects cowfreeze."""

from __future__ import annotations

import os
from pathlib import Path

import shop
from celery import Celery

app = Celery("tasks")
folder = os.environ.get("TASKS_FOLDER")
if folder:
    for name in ("queue", "control", "results"):
        Path(folder, name).mkdir(exist_ok=True)
    app.conf.broker_url = "filesystem://"
    app.conf.broker_transport_options = {
        "data_folder_in": f"{folder}/queue",
        "data_folder_out": f"{folder}/queue",
        "control_folder": f"{folder}/control",
    }
    app.conf.result_backend = f"file://{folder}/results"
else:
    app.conf.broker_url = app.conf.result_backend = os.environ["TASKS_REDIS"]
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True

if os.environ.get("SETUP"):
    import cowfreeze.integrations.celery

    cowfreeze.integrations.celery.setup()

if os.environ.get("WRONG_SIDE"):
    from celery.signals import worker_process_init

    @worker_process_init.connect
    def freeze_in_the_worker(**_: object) -> None:
        import cowfreeze

        cowfreeze.freeze(dry_run=True)


@app.task
def read(number: int) -> tuple[int, int]:
    return shop.read(number)


@app.task
def die() -> None:
    shop.die()
