"""RQ: freeze once, before the worker forks a work horse for each job.

    COWFREEZE_PRELOAD=myapp.tasks rq worker --worker-class cowfreeze.integrations.rq.Worker

or in a program of your own, which has imported the tasks:

    cowfreeze.integrations.rq.Worker(queues, connection=redis).work()

RQ imports a job's function in the work horse, so what nobody imported before is loaded for each job
again. COWFREEZE_PRELOAD names modules, separated by commas, that the worker imports before it
freezes. A work horse ends by os._exit: there is nothing to set for the exit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowfreeze._errors import UnsupportedError
from cowfreeze.integrations._common import freeze_for, preload

if TYPE_CHECKING:
    Worker: Any


def frozen(base: type[Any]) -> type[Any]:
    """A subclass of BASE, a worker class of RQ that forks, which freezes when it starts to work.

    Raises:
        UnsupportedError: BASE is no worker that forks (SimpleWorker, SpawnWorker).
    """
    from rq.worker import SimpleWorker, Worker  # type: ignore[import-not-found,import-untyped,unused-ignore]

    spawning = getattr(__import__("rq.worker", fromlist=["worker"]), "SpawnWorker", ())
    if not issubclass(base, Worker) or issubclass(base, SimpleWorker) or (spawning and issubclass(base, spawning)):
        raise UnsupportedError(
            f"{base.__name__} forks no work horses, so there is nothing to share: use rq.Worker or a subclass of it"
        )

    class FrozenWorker(base):  # type: ignore[misc]
        def work(self, *arguments: Any, **options: Any) -> Any:
            # Before RQ starts its thread that listens for commands.
            for line in preload():
                self.log.warning(line)
            freeze_for("RQ", self.log.info)
            return super().work(*arguments, **options)

    FrozenWorker.__name__ = FrozenWorker.__qualname__ = base.__name__
    FrozenWorker.__module__ = __name__
    return FrozenWorker


def __getattr__(name: str) -> Any:
    """`Worker` is made when it is asked for: RQ need not be there before."""
    if name != "Worker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from rq import Worker as base  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise UnsupportedError("cowfreeze.integrations.rq needs RQ: pip install 'cowfreeze[rq]'") from error
    globals()[name] = found = frozen(base)
    return found
