"""The server's side of `cowfreeze zygote run` (cowfreeze_command.zygote_run has the protocol).

The socket is the owner's alone: its mode, and the credentials of who connects. The request is read
by the child that will be the program, so that a slow client keeps nobody waiting.
"""

from __future__ import annotations

import marshal
import os
import socket
import struct
import sys
from typing import Any

from cowfreeze._zygote.program import Program
from cowfreeze_command.zygote_run import HELLO, LENGTH, MOST

LARGEST = 64 << 20  # bytes of a request: arguments and environment


def is_welcome(client: socket.socket) -> bool:
    """Is it this user's, or root's? Then it is greeted."""
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    if user not in (0, os.geteuid()):
        return False
    try:
        client.sendall(HELLO)
    except OSError:
        return False
    return True


def receive(client: socket.socket) -> tuple[Program, list[int]]:
    """What CLIENT asks for, and the descriptors that it sends.

    Raises:
        OSError, EOFError, ValueError: it did not keep to the protocol.
    """
    head, sent, _, _ = socket.recv_fds(client, LENGTH, MOST)
    if len(head) < LENGTH:
        raise EOFError("no request")
    length = int.from_bytes(head, sys.byteorder)
    if length > LARGEST:
        raise ValueError(f"a request of {length} bytes")
    data = bytearray()
    while len(data) < length:
        part = client.recv(min(length - len(data), 1 << 20))
        if not part:
            raise EOFError("half a request")
        data += part
    # marshal trusts its input: it comes from this user, who could do anything to this process.
    request: dict[str, Any] = marshal.loads(bytes(data))
    places: list[int | None] = [None, None, None]
    for place, number in enumerate(request.pop("streams")):
        places[number] = place
    program = Program(**request, streams=(places[0], places[1], places[2]), group=0)
    program.check()
    return program, sent
