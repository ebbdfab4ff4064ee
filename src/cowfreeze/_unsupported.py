"""What the public names do where cowfreeze cannot work: no harm, and it is said once.

    freeze                   freezes nothing; its report is empty and says why
    is_frozen                False
    clone, iter_clone, pack  ordinary deep copies: writable ones
    fast_exit and its guard  as everywhere
    fork_workers, assert_shared, trap      UnsupportedError: a figure that nobody measured is none

A team with other laptops than servers has one requirements file and one configuration. Where a silent
fallback would be a loss, COWFREEZE_REQUIRE=1 makes each of these an error.
"""

from __future__ import annotations

from copy import deepcopy

from cowfreeze import _support
from cowfreeze._errors import CowfreezeWarning, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, NoReturn

REASON = _support.why_not()
_said = False


def say_once(what: str) -> None:
    """Warn that WHAT does nothing, the first time in this process.

    Raises:
        UnsupportedError: COWFREEZE_REQUIRE is set.
    """
    global _said
    _support.refuse_if_required(what, REASON)
    if not _said:
        import warnings

        _said = True
        warnings.warn(f"cowfreeze does nothing here: {REASON}", CowfreezeWarning, stacklevel=3)


def refuse(what: str) -> NoReturn:
    """Raise: what measures cannot do as if.

    Raises:
        UnsupportedError: always.
    """
    raise UnsupportedError(f"{what} cannot work here: {REASON}")


class _Nothing:
    """A report whose figures are attributes of its class."""

    def to_dict(self) -> dict[str, Any]:
        """The figures under their names, as the report that it stands in for has them."""
        names = [name for name in dir(self) if name[0] != "_" and name != "to_dict"]
        return {name: list(self.notes) if name == "notes" else getattr(self, name) for name in names}  # type: ignore[attr-defined]


class FreezeReport(_Nothing):
    """The report of a freeze that froze nothing: every figure is 0, and the one note says why."""

    objects = bytes = pages = unwarmed = sealed_bytes = returned_bytes = sealed_heap_bytes = 0
    instance_dicts = utf8_forms = 0
    relocated_codes = relocated_bytes = peak_extra_bytes = remapped_bytes = remapped_mappings = hugepage_bytes = 0
    seconds = 0.0
    dry_run = whole_heap = False

    @property
    def phases(self) -> dict[str, float]:
        return {}

    @property
    def by_type(self) -> dict[str, tuple[int, int]]:
        return {}

    @property
    def skipped(self) -> dict[str, int]:
        return {}

    @property
    def notes(self) -> tuple[str, ...]:
        return (f"nothing was frozen: {REASON}",)

    def __repr__(self) -> str:
        return f"<FreezeReport: {self.notes[0]}>"

    __str__ = __repr__


def freeze(*roots: Any, warmup: Callable[[], object] | None = None, **options: Any) -> FreezeReport:
    """Freeze nothing; call `warmup`, as a freeze does."""
    say_once("cowfreeze.freeze()")
    if warmup is not None:
        warmup()
    return FreezeReport()


class Status(_Nothing):
    """The status of a process in which nothing is frozen, and why."""

    frozen = inherited = False
    freezes = objects = bytes = pages = 0
    pid = at = None
    notes: tuple[str, ...] = ()
    unsupported = REASON

    def __str__(self) -> str:
        return f"nothing is frozen: {REASON}"


def status() -> Status:
    """Says that nothing is frozen, and why."""
    return Status()


def is_frozen(obj: Any) -> bool:
    """False."""
    return False


def clone(obj: Any, *path: Any) -> Any:
    """A deep copy of what PATH, keys and indexes, leads to."""
    for step in path:
        obj = obj[step]
    return deepcopy(obj)


def iter_clone(seq: Sequence[Any], *path: Any) -> Iterator[Any]:
    """Deep copies of a sequence's elements, one by one."""
    for step in path:
        seq = seq[step]
    return (deepcopy(item) for item in seq)


class PackReport(_Nothing):
    """The report of a pack that packed nothing: every figure is 0, and the one note says why."""

    objects = bytes = header_bytes = table_bytes = source_bytes = references = kept_strings = 0
    outside_objects = outside_bytes = referred_objects = 0
    seconds = 0.0
    notes = (f"nothing was packed: {REASON}",)

    def __repr__(self) -> str:
        return f"<PackReport: {self.notes[0]}>"

    __str__ = __repr__


def pack(obj: Any, *, readonly: bool = True, report: Callable[[PackReport], object] | None = None) -> Any:
    """A deep copy."""
    say_once("cowfreeze.pack()")
    if report is not None:
        report(PackReport())
    return deepcopy(obj)


def repair_packed() -> int:
    """0: there is nothing to repair."""
    return 0


def fork_workers(*args: Any, **options: Any) -> NoReturn:
    """Raises UnsupportedError."""
    refuse("cowfreeze.fork_workers()")


def assert_shared(*args: Any, **options: Any) -> NoReturn:
    """Raises UnsupportedError."""
    refuse("cowfreeze.assert_shared()")


def trap(*args: Any, **options: Any) -> NoReturn:
    """Raises UnsupportedError."""
    refuse("cowfreeze.trap()")


class Trap:
    """Raises UnsupportedError when it is made."""

    def __init__(self, *args: Any, **options: Any) -> None:
        refuse("cowfreeze.Trap")


class TrappedWrite(Trap):
    """No trap, no write that was trapped."""


class Zygote:
    """Raises UnsupportedError when it is made. (With COWFREEZE=0 the real one works, and freezes nothing.)"""

    def __init__(self, *args: Any, **options: Any) -> None:
        refuse("cowfreeze.Zygote")
