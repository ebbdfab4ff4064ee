"""The picture files of an audit: whether they can be written is found out before the work."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING

from cowfreeze._errors import CowfreezeError
from cowfreeze._explain.picture import check_form, save
from cowfreeze._files import check_writable
from cowfreeze.cli.command import FAILURE, USAGE, CommandError

if TYPE_CHECKING:
    from cowfreeze._workers.report import WorkersResult


class Pictures:
    """Files by form ("html", "png", "svg"); None is none.

    Whether each can be written is tried on entry, and leaves nothing behind.
    """

    def __init__(self, files: dict[str, str | None]) -> None:
        self._files = {form: os.path.abspath(file) for form, file in files.items() if file is not None}
        self._names = files

    def __enter__(self) -> Pictures:
        for form, file in self._files.items():
            self._try(form, file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to do: nothing is made before it is written."""

    def _try(self, form: str, file: str) -> None:
        try:
            check_form(form, file)
        except CowfreezeError as error:
            raise CommandError(str(error), USAGE) from error
        try:
            check_writable(file)
        except OSError as error:
            raise _cannot_write(form, file, error, USAGE) from error

    def write(self, result: WorkersResult) -> list[str]:
        """Write all of them, for the worker that copied most; returns their names as given."""
        for form, file in self._files.items():
            try:
                save(result.explain(), file, form)
            except OSError as error:
                raise _cannot_write(form, file, error, FAILURE) from error
        return [name for name in self._names.values() if name is not None]


def _cannot_write(form: str, file: str, error: OSError, status: int) -> CommandError:
    return CommandError(
        f"--{form}: {file} cannot be written ({error.strerror or error}): give a file in a folder that exists "
        "and that you may write to",
        status,
    )
