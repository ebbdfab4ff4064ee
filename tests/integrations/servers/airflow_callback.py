"""Airflow's LocalExecutor, configured by the environment as a scheduler is: airflow_callback.py FOLDER.

Runs the callback jobs.read(FOLDER) three times: fork server -> executor's worker -> the process that
Airflow's supervisor forks for each callback. A callback that is killed fails, and the next one runs.
"""

from __future__ import annotations

import sys
import time
import uuid

from airflow.executors.local_executor import LocalExecutor
from airflow.executors.workloads import ExecuteCallback
from airflow.executors.workloads.base import BundleInfo
from airflow.executors.workloads.callback import CallbackDTO, CallbackFetchMethod
from airflow.utils.process_utils import set_component_mp_start_method


def main(folder: str) -> None:
    set_component_mp_start_method("scheduler")
    executor = LocalExecutor(parallelism=1)
    executor.start()
    for _ in range(3):
        callback = CallbackDTO(
            id=str(uuid.uuid4()),
            fetch_method=CallbackFetchMethod.IMPORT_PATH,
            data={"path": "jobs.read", "kwargs": {"folder": folder}},
        )
        workload = ExecuteCallback(
            callback=callback, dag_rel_path="none", token="", log_path=None, bundle_info=BundleInfo(name="none")
        )
        executor.queued_callbacks[workload.key] = workload
        executor._process_workloads([workload])
        deadline = time.monotonic() + 120
        state = "queued"
        while state in ("queued", "running"):
            assert time.monotonic() < deadline
            executor.sync()
            # What it returns is taken out of it.
            state = str(executor.get_event_buffer().get(workload.key, (state,))[0])
            time.sleep(0.1)
        print("callback", state, flush=True)
    executor.end()


if __name__ == "__main__":
    main(sys.argv[1])
