"""The mark, and what else of a frozen object a reader could write.

Pages are counted in a worker beside a witness, and each count is taken without a freeze too:
a read that would copy nothing anyway proves nothing. Cases: tests/freeze/cases_marks.py,
cases_constants.py, cases_warmth.py, cases_builds.py.
"""

from __future__ import annotations

import sys
import sysconfig

import pytest
from helpers.child import run_in_child, run_once

VERSION = sys.version_info[:2]
FLAGS = VERSION >= (3, 14)
IMMORTAL = VERSION >= (3, 12)
IS_DEBUG = bool(sysconfig.get_config_var("Py_DEBUG"))
needs_immortal = pytest.mark.skipif(
    not IMMORTAL, reason="before 3.12 every reference is counted in the object"
)


# -- the mark ---------------------------------------------------------------


def test_the_mark_is_exactly_what_this_version_tests() -> None:
    for count, flags in run_in_child("freeze.cases_marks", "headers"):
        if FLAGS:
            # Above 3 << 30 by 2^24, less the references that were in flight; and never near
            # the top, from where old extensions would overflow it.
            assert 0xC0FF0000 < count < 0xC1010000
            assert flags & 1
        elif IMMORTAL:
            assert count == 0xFFFFFFFF
        else:
            assert 1 << 39 < count < 1 << 61


@needs_immortal
@pytest.mark.parametrize("kind", ["str", "bytes", "tuple", "int"])
def test_no_kind_of_read_writes_the_header(kind: str) -> None:
    assert run_once("freeze.cases_marks", "every_kind_of_read")[kind] == 0


def test_reads_by_c_functions_leave_small_objects_shared() -> None:
    result = run_in_child("freeze.cases_marks", "many_small_objects")
    assert result["plain"] > 0.9 * result["pages"] > 500
    assert result["frozen"] <= 0.01 * result["pages"]


def test_references_in_flight_do_not_sink_the_count() -> None:
    result = run_in_child("freeze.cases_marks", "references_in_flight")
    assert result["marked"] and not result["copied"]
    if FLAGS:
        assert result["count"] == 0xC1000000


@needs_immortal
@pytest.mark.parametrize("variable", ["item", "value", "result", "keyword"])
def test_a_live_frame_uses_its_variable_in_the_worker(variable: str) -> None:
    assert run_once("freeze.cases_marks", "live_frame", False)[variable], "moving it does not write it"
    assert not run_once("freeze.cases_marks", "live_frame", True)[variable]


@needs_immortal
@pytest.mark.parametrize(
    "place", ["on the stack", "delegated", "in a list", "in a closure", "coroutine"]
)
def test_a_suspended_generator_is_resumed_in_the_worker(place: str) -> None:
    assert not run_once("freeze.cases_marks", "suspended_generators")[place]


# -- constants of code ------------------------------------------------------


@needs_immortal
@pytest.mark.parametrize(
    "code",
    [
        "plain",
        "kept in a list",
        "high index",
        "after jumps and caches",
        "nested",
        "method",
        "property of a class",
        "generator",
        "suspended generator",
        "suspended coroutine",
        "suspended async generator",
        "frozen code object",
        "class body",
        "bytes",
    ],
)
def test_code_that_ran_before_loads_its_constant_without_a_write(code: str) -> None:
    before, after = run_once("freeze.cases_constants", "loaded_by_code_that_ran")[code]
    if VERSION == (3, 14):
        assert before, "loading the constant did not write it when it was mortal"
    assert not after


@needs_immortal
@pytest.mark.parametrize("gc_freeze", [True, False], ids=["gc_freeze", "no_gc_freeze"])
def test_a_constant_is_frozen_after_its_function(gc_freeze: bool) -> None:
    before, after = run_in_child("freeze.cases_constants", "of_a_frozen_function", gc_freeze)
    assert before or VERSION != (3, 14)
    assert not after


def test_loading_constants_does_not_count_them_up() -> None:
    assert run_in_child("freeze.cases_constants", "drift") == {"drift": 0}


def test_the_loop_that_is_running_loads_its_constant_without_a_write() -> None:
    assert run_in_child("freeze.cases_constants", "in_the_running_frame") is False


# -- hashes and version tags ------------------------------------------------

HASHED = [
    "str",
    "non-ascii str",
    "str subclass key",
    "bytes",
    "frozenset",
    "date",
    "datetime",
    "aware datetime",
    "time",
    "timedelta",
    "Decimal",
    *(["tuple", "tuple in tuple", "named tuple"] if FLAGS else []),
]


@pytest.mark.parametrize("kind", HASHED)
def test_hash_is_filled(kind: str) -> None:
    cold, right = run_once("freeze.cases_warmth", "hashes")[kind]
    assert cold == 300, "the hash was there before: nothing was tested"
    assert right == 300


@needs_immortal
@pytest.mark.parametrize("kind", HASHED)
def test_hashing_in_a_worker_writes_nothing(kind: str) -> None:
    pages, copied = run_once("freeze.cases_warmth", "pages_written_by_hashing")[kind]
    assert pages >= 30
    assert copied <= max(5, 0.02 * pages)


def test_user_code_does_not_run_and_is_counted() -> None:
    result = run_in_child("freeze.cases_warmth", "user_code")
    assert result["ran"] == []
    # Two tuples (where they cache a hash), a datetime and a time with a tzinfo of the user's.
    assert result["unwarmed"] == (4 if FLAGS else 2)
    assert any("user code" in note for note in result["notes"])


def test_version_tags_are_given() -> None:
    result = run_in_child("freeze.cases_warmth", "version_tags")
    assert result["cold"] > 250, "the types had their tags before: nothing was tested"
    assert not result["changed"]
    if IMMORTAL:
        assert result["copied"] <= 0.1 * result["pages"]


def test_large_values_are_left_unhashed_and_counted() -> None:
    assert run_in_child("freeze.cases_warmth", "large_values") == {
        "unwarmed": 2,
        "large": [-1, -1],
        "small": True,
    }


@pytest.mark.skipif(not FLAGS, reason="tuples cache their hash from 3.14 on")
def test_tuples_in_tuples_are_warm() -> None:
    assert run_in_child("freeze.cases_warmth", "deep_tuples", 12) == {"cold": 0, "unwarmed": 0}


@pytest.mark.skipif(not FLAGS, reason="tuples cache their hash from 3.14 on")
def test_very_deep_tuples_are_warm_or_counted() -> None:
    for depth in (40, 100_000):
        result = run_in_child("freeze.cases_warmth", "deep_tuples", depth, stack_bytes=512 << 10)
        assert result["cold"] <= result["unwarmed"] <= depth


# -- builds -----------------------------------------------------------------


def test_frozen_strings_pass_the_checks_of_debug_builds() -> None:
    run_in_child("freeze.cases_warmth", "debug_strings")


def test_special_methods_may_have_frozen_names() -> None:
    result = run_in_child("freeze.cases_builds", "special_names")
    assert result.pop("values") == [3, 3, 3]
    if hasattr(sys, "gettotalrefcount") and VERSION >= (3, 12):
        assert result == {"marked": [False] * 3, "special method's name (debug build)": 3}
    else:
        assert result == {"marked": [True] * 3}


def test_an_old_extension_that_counts_unchecked_does_not_free() -> None:
    result = run_in_child("freeze.cases_builds", "old_stable_abi")
    assert result["marked"] and result["frozen"] and result["equal"]
    if FLAGS:
        assert result["drift"] > 90_000, "the interpreter has learnt to count back: nothing was tested"


def test_frozen_arenas_are_not_for_huge_pages() -> None:
    result = run_in_child("freeze.cases_builds", "huge_pages")
    assert result["before"] > 0
    assert result["after"] == 0
    assert result["copied"] <= 16
