"""What freeze() looks at before it begins: the interpreter, threads, forks, layouts of modules."""

from __future__ import annotations

import sys

from cowfreeze import _core
from cowfreeze._errors import CowfreezeError, CowfreezeWarning, UnsupportedError
from cowfreeze._origin import is_forked

_opcodes_told = False


_REFUSALS: dict[str, tuple[type[CowfreezeError], str]] = {
    "collector": (
        CowfreezeError,
        "cowfreeze.freeze() was called while the garbage collector is running, and nothing was frozen: by a "
        "finalizer (__del__), by the callback of a weak reference, by one of gc.callbacks, or while another "
        "thread is in one. Objects that the collector has put aside cannot be seen, and callbacks that it has "
        "still to call would get lost. Call it afterwards.",
    ),
    "interpreters": (
        UnsupportedError,
        "cowfreeze.freeze() was called while there are sub-interpreters, and nothing was frozen. They may share "
        "objects with the main one, and what their functions, generators and threads hold cannot be seen from "
        "here. Freeze before they are made, or after they are closed.",
    ),
}


def refusal(reason: str) -> CowfreezeError:
    """The error for what ``FreezeCounts.refused`` says."""
    kind, text = _REFUSALS[reason]
    return kind(text)


def check_interpreter() -> None:
    """Raise UnsupportedError in a sub-interpreter, and where there are such."""
    if not _core.is_main_interpreter():
        raise UnsupportedError(
            "cowfreeze.freeze() was called in a sub-interpreter. Sub-interpreters share immortal "
            "objects with the main one, which this package does not support. Call it in the main "
            "interpreter, before sub-interpreters are made."
        )
    if _core.other_interpreters():
        raise refusal("interpreters")


def check_threads(threads: str) -> None:
    """Warn about other Python threads, or refuse them, as freeze's argument says."""
    others = _core.other_threads()
    if others == 0 or threads == "allow":
        return
    import threading
    import warnings

    names = sorted(t.name for t in threading.enumerate() if t is not threading.current_thread())
    shown = ", ".join(names[:5]) or "made by C code"
    message = (
        f"cowfreeze.freeze() with {others} other Python thread{'s' if others > 1 else ''} running "
        f"({shown}). What they do afterwards may write to frozen pages, and a fork copies only the "
        f'calling thread. Start threads after forking, or pass threads="allow".'
    )
    if threads == "refuse":
        raise CowfreezeError(message)
    warnings.warn(message, CowfreezeWarning, stacklevel=3)


def check_forked(allow_forked: bool) -> None:
    """Warn in a process that was itself forked."""
    if allow_forked:
        return
    forked = is_forked()
    multiprocessing = sys.modules.get("multiprocessing.process")
    if not forked and multiprocessing is not None:
        forked = multiprocessing.parent_process() is not None
    from cowfreeze._system.wrong_side import right_hook, wrong_side_all_the_same

    advice = right_hook() if forked else wrong_side_all_the_same()
    if forked or advice:
        import warnings

        advice = advice or (
            "Call it in the parent, before the fork. If workers are forked from this process (a "
            "zygote, a fork server), pass allow_forked=True."
        )
        warnings.warn(
            "cowfreeze.freeze() in a forked process copies every page that it marks into this "
            f"process. {advice}",
            CowfreezeWarning,
            stacklevel=3,
        )


def look_at_layouts() -> tuple[str, ...]:
    """Let the C core check the layouts of modules that the program has imported by now.

    Returns:
        Notes about what is there and could not be understood.
    """
    global _opcodes_told
    notes = []
    if _core.HAS_LOAD_CONST_MORTAL and not _opcodes_told:
        import opcode

        from _opcode_metadata import _specializations  # type: ignore[import-not-found]

        _core.set_opcodes(
            opcode.opmap,
            opcode._specialized_opmap,  # type: ignore[attr-defined]
            opcode._inline_cache_entries,  # type: ignore[attr-defined]
            {form: base for base, forms in _specializations.items() for form in forms},
        )
        _opcodes_told = True
    datetime = sys.modules.get("datetime")
    if datetime is not None and hasattr(datetime, "timezone"):
        _core.set_datetime(
            datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone
        )
        offset = datetime.timedelta(hours=5, minutes=17)
        name = "cowfreeze probe"
        _core.add_hidden_slots(datetime.timezone(offset, name), offset, name)
    decimal = sys.modules.get("_decimal")
    if decimal is not None and hasattr(decimal, "Decimal"):
        _core.set_decimal(decimal.Decimal)
    zoneinfo = getattr(sys.modules.get("zoneinfo"), "ZoneInfo", None)
    offset_of = getattr(zoneinfo, "__dict__", {}).get("utcoffset")
    _core.set_zoneinfo(zoneinfo if type(offset_of) is type(str.join) else None)
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "ndarray") and hasattr(numpy, "array"):
        marker = object()
        array = numpy.array([marker, marker], dtype=object)
        if _core.add_ndarray(array, array[1:], array.dtype, marker):
            _core.add_records(numpy.zeros(1, dtype="O,i4"), numpy.zeros(1, dtype="i8,i4"))
    greenlet = sys.modules.get("greenlet")
    if greenlet is not None and hasattr(greenlet, "greenlet") and not _core.set_greenlet(greenlet.greenlet):
        notes.append(
            f"the frames of greenlets cannot be read (greenlet {getattr(greenlet, '__version__', 'unknown')}): "
            f"variables of greenlets that wait now still count the frozen objects that they refer to. After "
            f"about a billion stores of one of them that object would be freed while it is in use. Freeze before "
            f"greenlets are started."
        )
    return tuple(notes)
