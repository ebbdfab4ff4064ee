"""`cowfreeze zygote run`: what `python ARGS` does, by a process that a zygote forks.

    run ---- connect ----> zygote               who is it? (peer credentials; the same Python, HELLO)
        ---- descriptors 0 1 2, request ----> its new child, which becomes the program
        <--- process id ---- zygote
        ==== signals ====> program
        <--- exit status ---- zygote            and ends the same way

If anything before the process id does not work out, the program is started the ordinary way: by
exec, in this process. Uses only modules that are built into the interpreter.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import errno
import marshal
import os
import sys
from typing import Any, NoReturn

VARIABLE = "COWFREEZE_ZYGOTE_SOCKET"
USAGE = "usage: cowfreeze zygote run [--socket PATH] [-m MODULE | -c CODE | SCRIPT] [ARGUMENTS]"
# Of one protocol, one interpreter: what is handed over has its format, and modules are of its installation.
HELLO = marshal.dumps(("cowfreeze zygote", 1, sys.hexversion, sys.prefix))
NUMBER = 8  # bytes of a process id or an exit status, as multiprocessing.forkserver writes them
LENGTH = 4  # bytes of the length of a request
MOST = 200  # descriptors; the kernel takes 253 in one message
SECONDS = 10.0  # for a zygote to answer; a busy machine is no reason to wait for ever
# Sent by a terminal to a whole process group; the program and what it has started are one of their own.
TO_THE_GROUP = ("SIGINT", "SIGQUIT", "SIGHUP", "SIGTSTP", "SIGWINCH", "SIGCONT")
# Not passed on: those that nobody can catch, and those that are about this process.
NOT_PASSED_ON = ("SIGKILL", "SIGSTOP", "SIGCHLD", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGABRT", "SIGPIPE", "SIGSYS")


def main(argv: list[str]) -> int:
    """Does not return if a program was started."""
    path = os.environ.get(VARIABLE, "")
    while argv and argv[0].startswith("--socket"):
        name, sign, value = argv.pop(0).partition("=")
        if name != "--socket" or not (sign or argv):
            argv = []
            break
        path = value if sign else argv.pop(0)
    if not argv or (argv[0].startswith("-") and (argv[0] not in ("-m", "-c") or len(argv) < 2)):
        print(USAGE, file=sys.stderr)
        return 2
    if not path:
        print(f"cowfreeze: zygote run: which zygote? --socket PATH, or {VARIABLE} in the environment", file=sys.stderr)
        return 2
    connection = _connect(path)
    try:
        pid = _hand_over(connection, argv) if connection is not None else 0
    except (OSError, ValueError):  # no working directory, no /proc, what marshal cannot take: python has its own answer
        pid = 0
    if pid <= 0:
        _ordinary(argv)
    _pass_on_signals(pid)
    status = _number(connection)
    if status is None:
        print(f"cowfreeze: the zygote ended before program {pid} did: its exit status is not known", file=sys.stderr)
        status = 255
    _end(status)


def _ordinary(argv: list[str]) -> NoReturn:
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores them, and that would outlive exec
        _signal.signal(number, _signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, *argv])


def _connect(path: str) -> Any:
    """A connection to a zygote of this user and this Python, or None."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(SECONDS)
        connection.connect(path)
        credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        owner = int.from_bytes(credentials[4:8], sys.byteorder)
        if owner not in (0, os.geteuid()):
            print(f"cowfreeze: {path} belongs to user {owner}: the program is started the ordinary way", file=sys.stderr)
            return None
        if _receive(connection, len(HELLO)) == HELLO:
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _hand_over(connection: Any, argv: list[str]) -> int:
    """The id of the process that has become the program; 0 or less if there is none."""
    import resource

    streams = [number for number in range(3) if _is_open(number)]
    # What a shell, make or a supervisor hands on: those that exec would keep.
    kept = [number for number in map(int, os.listdir("/proc/self/fd")) if number > 2 and _is_open(number) and os.get_inheritable(number)]
    if len(kept) > MOST - len(streams):
        return 0  # the kernel takes no more in one message
    ignored = [
        number for number in _signal.valid_signals()
        if _signal.getsignal(number) == _signal.SIG_IGN and number not in (_signal.SIGPIPE, _signal.SIGXFSZ)
    ]  # fmt: skip
    umask = os.umask(0)
    os.umask(umask)
    limits = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
    request = marshal.dumps(
        {
            "args": argv,
            "environment": dict(os.environb),
            "folder": os.getcwd(),
            "path": sys.path if getattr(sys.flags, "safe_path", False) else sys.path[1:],
            "umask": umask,
            "streams": streams,
            "kept": [(number, place) for place, number in enumerate(kept, len(streams))],
            "ignored": [int(number) for number in ignored],
            "mask": [int(number) for number in _signal.pthread_sigmask(_signal.SIG_BLOCK, ())],
            "limits": [(which, *resource.getrlimit(which)) for which in sorted(set(limits))],
        }
    )
    descriptors = b"".join(number.to_bytes(4, sys.byteorder) for number in (*streams, *kept))
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)] if descriptors else []
    try:
        connection.sendmsg([len(request).to_bytes(LENGTH, sys.byteorder)], ancillary)
        connection.sendall(request)
        answer = _number(connection)
    except OSError:
        return 0
    connection.settimeout(None)
    return answer or 0


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _receive(connection: Any, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            break
        data += part
    return data


def _number(connection: Any) -> int | None:
    """A process id or a status; None at the end of the connection."""
    try:
        data = _receive(connection, NUMBER)
    except OSError as error:
        if error.errno != errno.ECONNRESET:
            raise
        return None
    return int.from_bytes(data, sys.byteorder, signed=True) if len(data) == NUMBER else None


def _pass_on_signals(pid: int) -> None:
    def forward(number: int, frame: Any) -> None:
        try:
            (os.killpg if number in group else os.kill)(pid, number)
        except ProcessLookupError:
            return
        if number == _signal.SIGTSTP:
            os.kill(os.getpid(), _signal.SIGSTOP)

    group = [getattr(_signal, name) for name in TO_THE_GROUP]
    for name in dir(_signal):
        if name.startswith("SIG") and not name.startswith("SIG_") and name not in (*NOT_PASSED_ON, "SIGRTMIN", "SIGRTMAX"):
            number = getattr(_signal, name)
            if isinstance(number, int) and _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, forward)


def _end(status: int) -> NoReturn:
    """As the program ended."""
    if status < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program has left one, if it was to
        number = -status
        if number not in (_signal.SIGKILL, _signal.SIGSTOP):
            _signal.signal(number, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
        status = 128 + number
    os._exit(status)
