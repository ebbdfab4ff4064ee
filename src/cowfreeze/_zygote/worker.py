"""What a zygote's server knows and its workers inherit: the data, and how to ask for another fork."""

from __future__ import annotations

import dataclasses
from multiprocessing import forkserver
from typing import Any

from cowfreeze._errors import ZygoteFailed


@dataclasses.dataclass
class Here:
    """This process is the server of a generation, or a worker of it.

    Attributes:
        key: names the zygote, in all its generations.
        name: the zygote's name in messages.
        generation: 1 for the first.
        loading: the server is not ready yet.
        data: what `load` returned, frozen.
        address, authkey: where the server listens; authkey since Python 3.14.
    """

    key: str
    name: str
    generation: int
    loading: bool = True
    data: Any = None
    address: str = ""
    authkey: bytes = b""


here: Here | None = None


def is_loading() -> bool:
    """Is `load` running in this process?"""
    return here is not None and here.loading


def inherited_data(key: str, name: str) -> Any:
    """The data of the zygote KEY, in a worker of it.

    Raises:
        ZygoteFailed: this process is no worker of it.
    """
    if here is None or here.key != key or here.loading:
        raise ZygoteFailed(
            f"the data of {name} were asked for in a process that was not forked from it. Start the process by "
            f"zygote.context: its Process, Pool, or ProcessPoolExecutor(mp_context=zygote.context)"
        )
    return here.data


class Sibling(forkserver.ForkServer):
    """The generation that this worker was forked from, as one that forks more of them."""

    def __init__(self, known: Here) -> None:
        super().__init__()
        self.number = known.generation
        inherited: Any = vars(forkserver)["_forkserver"]
        self._forkserver_address = known.address
        self._forkserver_authkey = known.authkey
        self._forkserver_alive_fd = inherited._forkserver_alive_fd

    def ensure_running(self) -> None:
        """A worker cannot start its server again. Whether it runs, the connection will show."""
