"""Tests of CPython that a frozen heap changes, and why: the only ones that may differ.

Keys are patterns (fnmatch) of `test.module.Class.method`; values are reasons. What does not
match anything here, passes on an unfrozen heap and fails on a frozen one is a defect.
"""

from __future__ import annotations

import fnmatch
import sys

UNTRACKED = (
    "asserts gc.is_tracked() of an object that was there before the freeze; what is frozen is "
    "untracked, so that the collector leaves its header alone"
)
REFERRERS = (
    "finds the function or class of a code object with gc.get_referrers(), which passes over what "
    "is frozen"
)
CONSTANTS = (
    "asserts that the interpreter takes LOAD_CONST_MORTAL for a constant; constants of frozen code are "
    "immortal, so that it takes LOAD_CONST_IMMORTAL, and nobody writes their counts"
)
KEYS = (
    "gives an instance more attributes than its class has shown; the key table of a frozen class has room "
    "for one more, so that workers do not write it, and the instance gets a dict of its own"
)
INTERNED = (
    "asserts that sys.intern() exchanges a constant for the interned string; debug builds abort on an immortal "
    "str that does not claim to be interned, so a frozen one does and is given back as it is"
)
COUNTS = "asserts the reference count of an object that was there before the freeze"

KNOWN: dict[str, str] = {
    "test.test_gc.GCTests.test_is_tracked": UNTRACKED,
    "test.test_memoryio.CBytesIOTest.test_cow_*": COUNTS,
    "test.test_zoneinfo.test_zoneinfo.*.test_gc_tracked": UNTRACKED,
    "test.test_trace.TestCallers.test_loop_caller_importing": REFERRERS,
    "test.test_trace.TestFuncs.test_inst_method_calling": REFERRERS,
    "test.test_socket.GeneralModuleTests.test_socket_type": UNTRACKED,
    "test.test_dis.*.test_loop_quicken": CONSTANTS,
    "test.test_opcache.TestSpecializer.test_load_const": CONSTANTS,
    "test.test_class.TestInlineValues.test_update_dict": KEYS,
    "test.test_pickle.HeapTypesTests.test_have_gc": UNTRACKED,
    "test.test_gc.GCTests.test_get_referents_on_capsule": UNTRACKED,
}


if hasattr(sys, "gettotalrefcount"):
    KNOWN["test.test_sys.SysModuleTest.test_subinterp_intern_statically_allocated"] = INTERNED


def reason(test: str) -> str | None:
    """Why TEST may fail on a frozen heap; None: it may not."""
    for pattern, why in KNOWN.items():
        if fnmatch.fnmatchcase(test, pattern):
            return why
    return None
