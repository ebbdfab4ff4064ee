"""Fork workers with descriptors 0, 1 and 2 closed: a channel must not become stdout."""

from __future__ import annotations

import os

import cowfreeze
from cowfreeze._workers.channel import make_channel


def target(index: int) -> str:
    print("x" * 100_000)  # would end up in descriptor 1
    os.write(1, b"y" * 100)
    return "unreachable: descriptor 1 is closed"


keep = os.dup(1)
os.set_inheritable(keep, False)
for descriptor in (0, 1, 2):
    os.close(descriptor)
channel = make_channel()
above = all(end.fileno() > 2 for end in channel)
for end in channel:
    end.close()
result = cowfreeze.fork_workers(target, workers=2, timeout=20)
lines = [f"channel above stdio: {above}"]
lines += [f"{worker.outcome}: {worker.status}" for worker in result.workers]
os.write(keep, "\n".join(lines).encode())
os._exit(0)
