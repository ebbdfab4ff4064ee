"""ZygotePopen: a subprocess.Popen whose process is forked from a zygote instead of started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from multiprocessing import connection
from typing import Any

from cowfreeze._zygote import context
from cowfreeze._zygote.program import FORMS, Program


OPTIONS = frozenset(
    {
        "stdin", "stdout", "stderr", "cwd", "env", "pass_fds", "start_new_session", "process_group", "umask", "text",
        "universal_newlines", "encoding", "errors", "bufsize",
    }
)  # fmt: skip


class _Process(context.Popen):
    """Asks for a program: there is nothing to prepare for multiprocessing."""

    def _preparation(self, process_obj: Any) -> dict[str, Any]:
        return {}

    def place(self, descriptor: int) -> int | None:
        """Send DESCRIPTOR along: its place in the list. None if it is not open."""
        try:
            os.fstat(descriptor)
        except OSError:
            return None
        return self.duplicate_for_child(descriptor)

    def _launch(self, process_obj: Any) -> None:
        program: Program = process_obj
        # Descriptors become places here, where the list is made.
        streams = [None if number is None else self.place(number) for number in program.streams]
        program.streams = streams[0], streams[1], streams[2]
        program.kept = tuple((number, self.duplicate_for_child(number)) for number, _ in program.kept)
        super()._launch(program)


class ZygotePopen(subprocess.Popen[Any]):
    """What `zygote.popen` returns: like subprocess.Popen, of which it is one.

    Its process is a child of the zygote's process, not of this one; `returncode` is 255 if the
    zygote was killed before it could tell.
    """

    def __init__(self, forks: Any, args: Any, **options: Any) -> None:
        if isinstance(args, (str, bytes)) or not all(isinstance(one, str) for one in args):
            raise TypeError(f"popen() {FORMS}")
        self._forks = forks
        self._process: _Process | None = None
        super().__init__(list(args), **options)

    def _execute_child(self, args: Any, *rest: Any) -> None:
        (
            _executable, _preexec, _close, pass_fds, folder, environment, _info, _flags, _shell,
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite,
            _restore, _gid, _gids, _uid, umask, new_session, *group,
        ) = rest  # fmt: skip
        if folder is not None:
            os.stat(os.path.join(folder, "."))  # subprocess raises here, too
        variables = dict(os.environb)
        if environment is not None:
            variables = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
        program = Program(
            args=args,
            environment=variables,
            folder=os.path.abspath(folder or "."),
            path=_path(variables, folder or "."),
            umask=umask,
            streams=(0 if p2cread == -1 else p2cread, 1 if c2pwrite == -1 else c2pwrite, 2 if errwrite == -1 else errwrite),
            kept=tuple((fd, 0) for fd in pass_fds),
            new_session=new_session,
            ignored=tuple(number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN),
            mask=tuple(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            group=group[0] if group and group[0] is not None else -1,
        )  # fmt: skip
        try:
            program.check()
            for name in (stream for stream in (sys.stdout, sys.stderr) if stream is not None):
                name.flush()
            self._process = _Process(program, self._forks)
        finally:
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]
        self.pid = self._process.pid
        self._child_created = True

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._process is not None:
            self.returncode = self._process.poll()
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        assert self._process is not None
        if self.returncode is None:
            if not connection.wait([self._process.sentinel], timeout):
                assert timeout is not None
                raise subprocess.TimeoutExpired(self.args, timeout)
            self._internal_poll()
        return int(self.returncode)


def _path(environment: dict[bytes, bytes], folder: str) -> list[str]:
    """sys.path of a program without its first entry: this process's, with the PYTHONPATH of ENVIRONMENT."""
    ours = [os.path.abspath(one) for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    theirs = os.fsdecode(environment.get(b"PYTHONPATH", b""))
    entries = [os.path.abspath(os.path.join(folder, one)) for one in theirs.split(os.pathsep) if one]
    inherited = sys.path if getattr(sys.flags, "safe_path", False) else sys.path[1:]
    return [*entries, *(one for one in inherited if one not in ours)]
