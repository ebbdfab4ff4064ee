"""Which hook would have been the right one: freezing on the wrong side of a fork, by host.

A process manager's callbacks differ by which process they run in, and their names do not tell. The
frames of the call do: each host calls the wrong hook from a function of its own. A host in C has no
frames, but a module to ask.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

_FORKED_WITHOUT_EXEC = 0x40  # PF_FORKNOEXEC of include/linux/sched.h, in the ninth field of /proc/PID/stat

_RQ = (
    "This is a work horse of RQ. Freeze before Worker(queues).work(): rq worker --worker-class "
    "cowfreeze.integrations.rq.Worker."
)
_UWSGI = (
    "This is a worker of uWSGI: its post_fork_hook, @postfork, or an application that lazy-apps loads. Freeze in the "
    "last line of the WSGI module, without lazy-apps: cowfreeze.integrations.uwsgi.setup()."
)

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
        'multiprocessing_context="fork": cowfreeze.integrations.torch.data_loader().',
    ),
    ("rq/worker/base.py", "main_work_horse", _RQ),
    ("rq/worker.py", "main_work_horse", _RQ),
    (
        "pyspark/daemon.py",
        "worker",
        "This is a Python worker of Spark. Freeze in its daemon: "
        "spark.python.daemon.module=cowfreeze.integrations.pyspark, and the data's module in COWFREEZE_PRELOAD.",
    ),
    (
        "multiprocessing/process.py",
        "_bootstrap",
        "This is a process of multiprocessing. Freeze before it is started (start method fork), or in the fork server: "
        "cowfreeze.integrations.multiprocessing.forkserver_context().",
    ),
)  # fmt: skip


def right_hook() -> str:
    """A sentence or two that name the right hook for the caller's call; "" if the host is not known."""
    if _in_uwsgi_worker():
        return _UWSGI
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        for suffix, name, text in _PLACES:
            if name in ("", function) and file.endswith(suffix):
                return text
        frame = frame.f_back
    return _tornado()


def wrong_side_all_the_same() -> str:
    """`right_hook` for a process that imported cowfreeze after it was forked; "" if it may be a parent.

    That the kernel knows of no exec since the fork does not make a process a worker: it may be a
    daemon. Both together do, except in gunicorn's own process, which calls pre_fork from there.
    """
    if _in_uwsgi_worker():
        return _UWSGI
    return "" if not _forked_without_exec() or _in_arbiter() else right_hook()


def _in_uwsgi_worker() -> bool:
    """Without a parent of its own kind worker 1 is the process that loads, and is no worker then."""
    uwsgi = sys.modules.get("uwsgi")
    return getattr(uwsgi, "worker_id", int)() > 0


def _tornado() -> str:
    """Tornado returns from the fork to the program, so that no frame of it is left."""
    process = sys.modules.get("tornado.process")
    if getattr(process, "_task_id", None) is None:
        return ""
    return "This is a child of Tornado's fork_processes(). Freeze before it: cowfreeze.integrations.tornado.fork_processes()."


def _forked_without_exec() -> bool:
    try:
        with open("/proc/self/stat", "rb") as file:
            return bool(int(file.read().rpartition(b")")[2].split()[6]) & _FORKED_WITHOUT_EXEC)
    except (OSError, IndexError, ValueError):
        return False


def _in_arbiter() -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "spawn_worker" and frame.f_code.co_filename.endswith("arbiter.py"):
            return getattr(frame.f_locals.get("self"), "pid", None) == os.getpid()
        frame = frame.f_back
    return False
