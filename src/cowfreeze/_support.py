"""Where cowfreeze cannot work: which platforms and builds, in one sentence each.

Without imports of its own package, because setup.py runs this file too. Where the answer is not "",
`_unsupported.py` stands in for everything public, and does no harm.
"""

from __future__ import annotations

import os
import sys

_OFF = ("0", "off", "false", "no")


def why_not_this_build() -> str:
    """Why the C core cannot exist for this interpreter; "" if it can."""
    if sys.platform != "linux":
        return (
            f"the platform is {sys.platform!r}, not Linux: copied pages are measured with /proc/PID/pagemap, which only "
            "Linux has"
        )
    if sys.implementation.name != "cpython":
        return f"the interpreter is {sys.implementation.name!r}, not CPython, whose object headers cowfreeze writes"
    if "t" in getattr(sys, "abiflags", ""):
        return (
            "this is a free-threaded Python: its object headers differ, and reading a dict or list writes to them; use "
            "the default build"
        )
    if sys.maxsize < 2**32:
        return (
            "this is a 32-bit Python: the immortal reference counts of 32-bit builds are lost by a single unchecked change"
        )
    return ""


def refuse_if_required(what: str, reason: str) -> None:
    """Where WHAT goes on without freezing, for REASON.

    Raises:
        UnsupportedError: the environment forbids that (COWFREEZE_REQUIRE=1).
    """
    if os.environ.get("COWFREEZE_REQUIRE", "") not in ("", "0"):
        from cowfreeze._errors import UnsupportedError

        raise UnsupportedError(f"{what}: {reason} (and COWFREEZE_REQUIRE is set)")


def why_not() -> str:
    """Why nothing is frozen in this process; "" if cowfreeze works here."""
    if os.environ.get("COWFREEZE", "").strip().lower() in _OFF:
        return f"COWFREEZE={os.environ['COWFREEZE']} in the environment switches it off"
    reason = why_not_this_build()
    if reason:
        return reason
    import _thread

    # Asked before the C extension is imported: where a sub-interpreter is the first to do that, the main one
    # cannot any more. Before 3.12 the interpreter does not say which it is.
    if not getattr(_thread, "_is_main_interpreter", lambda: True)():
        return (
            "this is a sub-interpreter: what is frozen is shared by all interpreters of the process, so it belongs into "
            "the main one"
        )
    try:
        from cowfreeze import _core  # noqa: F401
    except ImportError as error:
        from importlib.util import find_spec

        if find_spec("cowfreeze._core") is not None:
            raise  # it is there and does not load: in a sub-interpreter, or a broken build. That is no platform
        return (
            f"its C extension is missing ({error}): pip found no wheel and no C compiler, or the package of another "
            "interpreter is on the path. Install gcc and this Python's headers, and reinstall it: "
            "pip install --force-reinstall --no-cache-dir cowfreeze"
        )
    return ""
