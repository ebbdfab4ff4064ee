"""multiprocessing: workers of a fork server that share what the server loaded.

    context = forkserver_context("your.data")     # before the first process is started
    check_preload(context)                        # in tests, or once at the start
    with context.Pool(8) as pool: ...

With the start method fork there is nothing to set up: call `cowfreeze.freeze()` before Process or
Pool. What a worker gets as an argument is pickled into a copy of its own, and so is what
`initializer=` makes: only module globals of preloaded modules are shared.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import process as mp_process
from typing import TYPE_CHECKING

import cowfreeze
from cowfreeze._errors import CowfreezeError
from cowfreeze.integrations._settings import Settings, Warmup

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext, ForkServerContext

_LAST = "cowfreeze.integrations.forkserver"


def forkserver_context(
    *modules: str,
    warmup: Warmup = None,
    relocate_code: bool | None = None,
    fast_exit: bool | None = None,
    refreeze: bool | None = None,
) -> ForkServerContext:
    """A context whose fork server imports MODULES and freezes before its first fork.

    Args:
        modules: names as for `import`; they hold the data as globals.
        warmup: what workers will do, done once in the server before the freeze: ``"module:function"``,
            or a function that can be imported by its name.
        relocate_code: as `cowfreeze.freeze` takes it.
        fast_exit: without effect: workers of multiprocessing end by ``os._exit`` in any case.
        refreeze: without effect: the server freezes once.

    They reach the server as the variables COWFREEZE_WARMUP and so on, which are set in this process.

    Raises:
        TypeError: `warmup` is no function that another process could import.
        CowfreezeError: the server of this program runs already, or this is a worker.
    """
    from multiprocessing import forkserver

    if mp_process.parent_process() is not None:
        raise CowfreezeError(
            "forkserver_context() was called in a worker of multiprocessing: workers are forked by the server that "
            "the main program starts. Call it there, below `if __name__ == '__main__':`"
        )
    if vars(forkserver)["_forkserver"]._forkserver_pid is not None:
        raise CowfreezeError(
            "the fork server of this program runs already, and has loaded what it will load. Call "
            "forkserver_context() before the first process, pool or manager is started"
        )
    os.environ.update(Settings(warmup, relocate_code, fast_exit, refreeze).to_environment())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*modules, _LAST])
    context._cowfreeze_modules = modules  # type: ignore[attr-defined]
    return context


def check_preload(context: BaseContext, *modules: str, timeout: float = 60.0) -> None:
    """Start one process and ask it whether it shares MODULES (default: those of the context).

    Raises:
        CowfreezeError: it does not, with the names and the reason.
    """
    if not cowfreeze.supported:
        return  # nothing is shared anywhere, which was said
    wanted = modules or getattr(context, "_cowfreeze_modules", ())
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_ask, args=(sender, wanted))  # type: ignore[attr-defined]
    process.start()
    sender.close()
    try:
        answer = receiver.recv() if receiver.poll(timeout) else f"no answer after {timeout} s"
    except EOFError:
        answer = "the process that was asked ended without an answer"
    finally:
        receiver.close()
        process.join(timeout)
    if answer:
        raise CowfreezeError(answer)


def _ask(sender: Connection, modules: tuple[str, ...]) -> None:
    from cowfreeze.integrations.forkserver import assert_inherited_freeze

    try:
        assert_inherited_freeze(*modules)
        answer = ""
    except CowfreezeError as error:
        answer = str(error)
    sender.send(answer)
