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
from cowfreeze.integrations._log import warn
from cowfreeze.integrations._settings import Settings, Warmup

if TYPE_CHECKING:
    Worker: Any


def frozen(
    base: type[Any],
    *,
    warmup: Warmup = None,
    relocate_code: bool | None = None,
    fast_exit: bool | None = None,
    refreeze: bool | None = None,
    **options: Any,
) -> type[Any]:
    """A subclass of BASE, a worker class of RQ that forks, which freezes when it starts to work.

    Args:
        base: the class.
        warmup: what workers will do, done once before the freeze: a function, or ``"module:function"``.
        relocate_code: as `cowfreeze.freeze` takes it.
        fast_exit: without effect: a work horse ends by ``os._exit`` in any case.
        refreeze: freeze again before a later job when at least 10,000 containers are new, 10 times
            at most (default); False: what is new is never frozen.
        options: further arguments of `cowfreeze.freeze`.

    All but `options` default to the variables COWFREEZE_WARMUP, COWFREEZE_RELOCATE_CODE,
    COWFREEZE_FAST_EXIT and COWFREEZE_REFREEZE.

    Raises:
        UnsupportedError: BASE is no worker that forks (SimpleWorker, SpawnWorker).
    """
    from rq.worker import SimpleWorker, Worker  # type: ignore[import-not-found,import-untyped,unused-ignore]

    spawning = getattr(__import__("rq.worker", fromlist=["worker"]), "SpawnWorker", ())
    if not issubclass(base, Worker) or issubclass(base, SimpleWorker) or (spawning and issubclass(base, spawning)):
        raise UnsupportedError(
            f"{base.__name__} forks no work horses, so there is nothing to share: use rq.Worker or a subclass of it"
        )

    settings = Settings(warmup, relocate_code, fast_exit, refreeze, **options)

    class FrozenWorker(base):  # type: ignore[misc]
        def work(self, *arguments: Any, **options: Any) -> Any:
            # Before RQ starts its thread that listens for commands.
            for line in preload():
                warn(line, self.log.warning)
            self._freeze("warn")
            return super().work(*arguments, **options)

        def fork_work_horse(self, *arguments: Any, **options: Any) -> Any:
            self._freeze("allow")  # that thread only waits
            return super().fork_work_horse(*arguments, **options)

        def _freeze(self, threads: str) -> None:
            freeze_for("RQ", settings, info=self.log.info, warning=self.log.warning, threads=threads)

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
