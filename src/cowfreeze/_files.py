"""Output files, written so that neither a link nor an interrupt can make them hit something else.

    /tmp/map.html            what the user named; in a folder that others may write to, it may be
                             a link that somebody put there, to a file of ours
    /tmp/.map.html.<random>  made here with O_EXCL, so it is new and ours
      --- rename --->        replaces the name: a link goes, what it points to stays

A reader sees the old file or the new one. What is neither a file nor a link to one, such as
/dev/stdout or a pipe, is written as it is: there is nothing to replace.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def write_whole(file: str | os.PathLike[str], content: str | bytes) -> None:
    """Make CONTENT (text as UTF-8) the content of FILE.

    An existing file keeps its permissions; a new one has those that the umask leaves.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    path = os.fspath(file)
    if _is_special(path):
        with open(path, "wb") as out:
            out.write(data)
        return
    folder, name = os.path.split(os.path.abspath(path))
    spare = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(spare, _NEW, 0o666)
    except PermissionError:
        # A folder that we may not write to, with a file that we may.
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(descriptor, "wb") as out:
            out.write(data)
        return
    try:
        with open(descriptor, "wb") as out:
            before = _status(path)
            if before is not None and stat.S_ISREG(before.st_mode):
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            out.write(data)
        os.replace(spare, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(spare)
        raise


def check_writable(file: str | os.PathLike[str]) -> None:
    """Raise the OSError that write_whole would, as far as that can be told before; makes nothing
    that stays."""
    path = os.fspath(file)
    if _is_special(path):
        return
    folder, name = os.path.split(os.path.abspath(path))
    before = _status(path)
    if before is not None and stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if before is not None and stat.S_ISREG(before.st_mode) and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    spare = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(8)}")
    try:
        os.close(os.open(spare, _NEW, 0o600))
    except PermissionError:
        if before is None or not stat.S_ISREG(before.st_mode):
            raise
    else:
        os.unlink(spare)


def _status(path: str) -> os.stat_result | None:
    """Of the name itself, not of what a link points to."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _is_special(path: str) -> bool:
    """Is it, perhaps through links, something that is there and neither a file nor a folder?"""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
