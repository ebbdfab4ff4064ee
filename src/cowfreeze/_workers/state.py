"""What one call of fork_workers knows: filled by run.py, read by the worker and by those who judge it."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cowfreeze import _core
    from cowfreeze._workers.channel import Mailbox
    from cowfreeze._workers.worker import Worker


@dataclasses.dataclass
class State:
    """The facts of a run; who waits, kills and reaps is Run.

    Attributes:
        target, calls: what runs, and the arguments of each worker.
        timeout, grace: seconds, see fork_workers.
        mailbox: a slot for each worker, in memory that all share.
        parent: process id of who forks.
        mask: the caller's blocked signals; a worker takes them back before its target.
        ends: both descriptors of each worker's channel.
        children_ignored: SIGCHLD was ignored; the target finds it so.
        witness, no_witness: who keeps the pages of the fork, or the reason why nobody does.
        workers: in the order of their index.
        notes: what a reader of the result must know.
    """

    target: Callable[..., Any]
    calls: list[tuple[Any, ...]]
    timeout: float | None
    grace: float
    mailbox: Mailbox = dataclasses.field(init=False)
    parent: int = dataclasses.field(default_factory=os.getpid)
    mask: set[int] = dataclasses.field(default_factory=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    ends: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    children_ignored: bool = False
    witness: _core.Witness | None = None
    no_witness: str = ""
    workers: list[Worker] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
