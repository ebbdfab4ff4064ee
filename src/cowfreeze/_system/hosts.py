"""Who forks here: hosts of Python workers, recognized by their command lines.

A host is known by the words it is started with or by the title it gives itself. The question
that matters is where the application is loaded: in the process that forks (its workers can
share it) or in each worker (nothing that the parent freezes reaches them).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

YES, MAYBE, NO = "yes", "maybe", "no"


@dataclass(frozen=True)
class Host:
    """A kind of process.

    Attributes:
        name: as people call it.
        benefits: "yes" (forks after loading), "maybe" (only with the right setting), "no"
            (workers start with exec, or each loads the application itself).
        why: the fact behind it.
        remedy: what to paste or to change; "" if there is nothing.
    """

    name: str
    benefits: str
    why: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    host: Host


def _rule(pattern: str, host: Host) -> _Rule:
    return _Rule(re.compile(pattern), host)


_SPAWN = "its workers start with spawn: each one is a new interpreter that loads everything again"
_GUNICORN = "gunicorn --preload -k uvicorn_worker.UvicornWorker APP    # pip install uvicorn-worker"

# The first rule that matches wins; the text is the command line with one space between words and
# with the folder of the first two words (interpreter, script) removed. "m:" stands before a
# module that was started with -m.
_RULES = (
    _rule(r"multiprocessing\.resource_tracker|resource_tracker import main", Host("resource tracker", MAYBE)),
    _rule(
        r"multiprocessing\.forkserver import|forkserver import main",
        Host(
            "forkserver",
            MAYBE,
            "workers share what the fork server loaded before its first fork, and only that",
            'cowfreeze.integrations.multiprocessing.forkserver_context("your.data")',
        ),
    ),
    _rule(
        r"popen_loky_posix|loky\.backend|joblib\.externals\.loky",
        Host(
            "loky",
            NO,
            "loky (joblib's default) executes a new interpreter for each worker",
            "JOBLIB_START_METHOD=fork    # with joblib.parallel_backend('multiprocessing')",
        ),
    ),
    _rule(
        r"multiprocessing\.spawn import|--multiprocessing-fork",
        Host(
            "multiprocessing spawn",
            NO,
            "the start method is spawn: each worker is a new interpreter that loads everything again",
            'multiprocessing.set_start_method("fork")    # before the first Process or Pool',
        ),
    ),
    _rule(
        r"^ray::|^m:ray\b|\braylet\b|ray/_private/workers|default_worker\.py",
        Host("Ray", NO, "Ray executes a new interpreter for each worker; only its object store is shared",
             "ray.put(array)    # share buffers through the object store instead"),
    ),
    _rule(
        r"^dask-(worker|scheduler)|^dask (worker|scheduler)|^m:distributed|distributed[./]cli|^m:dask\b",
        Host("Dask", NO, "the nanny spawns its workers; threads of one worker share memory already",
             "dask worker SCHEDULER --nworkers 1 --nthreads N    # threads instead of processes"),
    ),
    _rule(
        r"^gunicorn|^m:gunicorn",
        Host(
            "gunicorn",
            MAYBE,
            "only with preload_app is the application loaded before the fork",
            "cowfreeze run -- gunicorn --preload ...    # or -c python:cowfreeze.integrations.gunicorn",
        ),
    ),
    _rule(
        r"^uvicorn|^m:uvicorn",
        Host("uvicorn", NO, "uvicorn --workers: " + _SPAWN, _GUNICORN),
    ),
    _rule(r"^hypercorn|^m:hypercorn", Host("hypercorn", NO, "hypercorn: " + _SPAWN, _GUNICORN)),
    _rule(
        r"^granian|^m:granian",
        Host("granian", NO, "granian loads the application in each worker, whatever the start method", _GUNICORN),
    ),
    _rule(
        r"^sanic|^m:sanic",
        Host("Sanic", MAYBE, "Sanic's start method is spawn unless changed", 'Sanic.start_method = "fork"'),
    ),
    _rule(
        r"^uwsgi",
        Host("uWSGI", YES, "the application is loaded before the fork unless lazy-apps is set",
             "cowfreeze.integrations.uwsgi.setup()    # last line of the WSGI module; no lazy-apps"),
    ),
    _rule(
        r"^\[celeryd|^celery|^m:celery",
        Host("Celery", YES, "the prefork pool forks after the tasks are imported",
             "cowfreeze.integrations.celery.setup()    # in the module of the Celery application"),
    ),
    _rule(
        r"^m:cowfreeze\.integrations\.pyspark",
        Host("PySpark daemon", YES, "cowfreeze's daemon froze what it loaded before it forks"),
    ),
    _rule(
        r"^m:pyspark\.daemon|pyspark[./]daemon",
        Host("PySpark daemon", MAYBE, "workers share what the daemon module loaded, and Spark's own loads next to nothing",
             "--conf spark.python.daemon.module=cowfreeze.integrations.pyspark"),
    ),
    _rule(
        r"^rq worker|^rqworker|^m:rq\b",
        Host("RQ", YES, "a process is forked for every job",
             "COWFREEZE_PRELOAD=your.jobs rq worker --worker-class cowfreeze.integrations.rq.Worker"),
    ),
    _rule(
        r"^airflow|^m:airflow",
        Host("Airflow", MAYBE, "workers share what a fork server preloads; from Python 3.14 on that is the default, and empty",
             "AIRFLOW__CORE__MP_START_METHOD=forkserver AIRFLOW__CORE__MP_FORKSERVER_PRELOAD=airflow,"
             "airflow.executors.local_executor,cowfreeze.integrations.forkserver"),
    ),
    _rule(
        r"^dramatiq|^m:dramatiq",
        Host("dramatiq", NO, "dramatiq's workers import the application themselves"),
    ),
)  # fmt: skip

HELPERS = frozenset({"resource tracker", "forkserver"})  # multiprocessing starts them with exec beside its workers

# Options that name a file or a database with more options, and a file without an option.
_UWSGI_FILE = re.compile(r"--(ini|xml|yaml|yml|json|ldap|emperor|config)\b|\.(ini|xml|ya?ml|js|json)\b")
_PYTHON = re.compile(r"^(python|pypy)[0-9.]*[a-z]*$")


def identify(command: Sequence[str], name: str = "") -> Host | None:
    """The host that COMMAND starts, None if it is an ordinary program.

    Args:
        command: the arguments, or one text for a process that set a title.
        name: the process's short name, used when the arguments are hidden.
    """
    text = _normal(command) or name
    host = next((rule.host for rule in _RULES if rule.pattern.search(text)), None)
    if host is None:
        return None
    if host.name == "gunicorn" and "--preload" in text:
        return Host("gunicorn", YES, "the application is loaded before the fork", host.remedy)
    if host.name == "uWSGI" and (found := re.search(r"--(lazy(-apps)?)\b", text)):
        return Host("uWSGI", NO, f"{found[1]} loads the application in each worker", f"remove {found[1]}")
    if host.name == "uWSGI" and _UWSGI_FILE.search(text):
        why = "the application is loaded before the fork unless its configuration file sets lazy-apps"
        return Host("uWSGI", MAYBE, why, host.remedy)
    if host.name == "RQ" and (found := re.search(r"(?:-w|--worker-class)[ =]\S*\b(SimpleWorker|SpawnWorker)", text)):
        return Host("RQ", NO, f"{found[1]} forks no process for a job", "rq worker without --worker-class")
    if host.name == "Celery" and (found := re.search(r"(?:-P|--pool)[ =](solo|threads|gevent|eventlet)", text)):
        return Host("Celery", NO, f"the pool {found[1]} does not fork", "celery worker --pool prefork ...")
    return host


def is_python(command: Sequence[str], executable: str = "", name: str = "") -> bool:
    """Is this a Python interpreter, or a host that contains one?"""
    words = [os.path.basename(executable), os.path.basename(command[0]) if command else "", name]
    return any(_PYTHON.match(word) for word in words if word) or identify(command, name) is not None


def _normal(command: Sequence[str]) -> str:
    """COMMAND as one text that starts with the program, not with the interpreter and its options.

    One argument that holds spaces is a title that the process gave itself ("gunicorn: worker [app]").
    """
    words = list(command)
    if not words:
        return ""
    words[0] = words[0].rpartition("/")[2] if " " not in words[0] else words[0]
    if not _PYTHON.match(words[0]):
        return " ".join(words)
    rest = words[1:]
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c"):
        takes_value = rest[0] in ("-X", "-W")
        rest = rest[2 if takes_value else 1 :]
    if not rest:
        return words[0]
    if rest[0] == "-m":
        return " ".join(["m:" + rest[1], *rest[2:]]) if len(rest) > 1 else words[0]
    if rest[0] == "-c":
        # The code of a user's one-liner is no command line, but that of multiprocessing is.
        code = " ".join(rest[1:])
        return code if re.match(r"from [\w.]+ import ", code) else words[0]
    return " ".join([rest[0].rpartition("/")[2], *rest[1:]])


def title(command: Sequence[str], name: str, width: int = 22) -> str:
    """What to call a process in a table: its program and first argument, without folders."""
    host = identify(command, name)
    text = _normal(command).removeprefix("m:") or f"[{name}]"
    if host is not None and host.name.lower() not in text.lower():
        text = host.name
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1].rstrip() + "~"
