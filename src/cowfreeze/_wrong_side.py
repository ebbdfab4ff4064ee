"""Which hook would have been the right one: freezing on the wrong side of a fork, by host.

A process manager's callbacks differ by which process they run in, and their names do not tell. The
frames of the call do: each host calls the wrong hook from a function of its own.
"""

from __future__ import annotations

import sys
from types import FrameType

# (end of the file's name, function, or "" for any): what to do instead.
_PLACES = (
    (
        "gunicorn/arbiter.py",
        "spawn_worker",
        "This is gunicorn's post_fork or post_worker_init, or an application that a worker loads. Freeze in the hook "
        "when_ready, with preload_app = True: cowfreeze.integrations.gunicorn.install(globals()).",
    ),
    (
        "gunicorn/dirty/arbiter.py",
        "spawn_worker",
        "This is a dirty worker of gunicorn. Freeze in on_dirty_starting or on_starting: "
        "cowfreeze.integrations.gunicorn.install(globals()).",
    ),
    (
        "celery/concurrency/prefork.py",
        "process_initializer",
        "This is Celery's worker_process_init. Freeze at celeryd_after_setup: cowfreeze.integrations.celery.setup().",
    ),
    (
        "billiard/pool.py",
        "",
        "This is a worker of Celery's pool. Freeze at celeryd_after_setup: cowfreeze.integrations.celery.setup().",
    ),
    (
        "concurrent/futures/process.py",
        "_process_worker",
        "This is initializer= of a ProcessPoolExecutor. Freeze before the first submit (start method fork), or in the "
        "fork server: cowfreeze.integrations.multiprocessing.forkserver_context().",
    ),
    (
        "multiprocessing/pool.py",
        "worker",
        "This is initializer= of a multiprocessing pool. Freeze before Pool() (start method fork), or in the fork "
        "server: cowfreeze.integrations.multiprocessing.forkserver_context().",
    ),
    (
        "torch/utils/data/_utils/worker.py",
        "",
        "This is worker_init_fn of a DataLoader. Freeze the dataset before iter(loader), with "
        'multiprocessing_context="fork".',
    ),
    ("uwsgidecorators.py", "", "This is uWSGI's postfork. Freeze in the last line of the WSGI module, without lazy-apps."),
    ("rq/worker/worker_classes.py", "main_work_horse", "This is a work horse of RQ. Freeze before Worker(queues).work()."),
    ("rq/worker.py", "main_work_horse", "This is a work horse of RQ. Freeze before Worker(queues).work()."),
    (
        "multiprocessing/process.py",
        "_bootstrap",
        "This is a process of multiprocessing. Freeze before it is started (start method fork), or in the fork server: "
        "cowfreeze.integrations.multiprocessing.forkserver_context().",
    ),
)  # fmt: skip


def right_hook() -> str:
    """A sentence or two that name the right hook for the caller's call; "" if the host is not known."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        for suffix, name, text in _PLACES:
            if name in ("", function) and file.endswith(suffix):
                return text
        frame = frame.f_back
    return ""
