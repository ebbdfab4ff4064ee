"""The picture files of an audit: whether they can be written is found out before the work."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType
from typing import TYPE_CHECKING

from cowfreeze._errors import CowfreezeError
from cowfreeze._picture import check_form, save
from cowfreeze.cli._command import FAILURE, USAGE, CommandError

if TYPE_CHECKING:
    from cowfreeze._report import WorkersResult


class Pictures:
    """Files by form ("html", "png", "svg"); None is none.

    Each is opened for writing on entry and closed again. What did not exist before is removed if
    nothing came to be written.
    """

    def __init__(self, files: dict[str, str | None]) -> None:
        self._files = {form: os.path.abspath(file) for form, file in files.items() if file is not None}
        self._made: list[str] = []
        self._names = files

    def __enter__(self) -> Pictures:
        try:
            for form, file in self._files.items():
                self._try(form, file)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _try(self, form: str, file: str) -> None:
        try:
            check_form(form, file)
        except CowfreezeError as error:
            raise CommandError(str(error), USAGE) from error
        existed = os.path.lexists(file)
        try:
            with open(file, "ab"):
                pass
        except OSError as error:
            raise _cannot_write(form, file, error, USAGE) from error
        if not existed:
            self._made.append(file)

    def write(self, result: WorkersResult) -> list[str]:
        """Write all of them, for the worker that copied most; returns their names as given."""
        for form, file in self._files.items():
            try:
                save(result.explain(), file, form)
            except OSError as error:
                raise _cannot_write(form, file, error, FAILURE) from error
            if file in self._made:
                self._made.remove(file)
        return [name for name in self._names.values() if name is not None]

    def _remove(self) -> None:
        for file in self._made:
            with contextlib.suppress(OSError):
                os.unlink(file)
        self._made.clear()


def _cannot_write(form: str, file: str, error: OSError, status: int) -> CommandError:
    return CommandError(
        f"--{form}: {file} cannot be written ({error.strerror or error}): give a file in a folder that exists "
        "and that you may write to",
        status,
    )
