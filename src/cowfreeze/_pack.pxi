"""Binding of pack.h: pack, is_packed."""


cdef extern from "pack/pack.h":
    ctypedef struct cf_pack_outcome:
        size_t objects
        size_t header_bytes
        size_t table_bytes
        size_t source_bytes
        size_t references
        size_t kept
        size_t outside
        size_t referred
        double seconds
    int cf_pack_init() except -1
    object cf_pack(object root, bint readonly, cf_pack_outcome *outcome, PyObject **keeper)
    size_t cf_pack_repair()


cdef extern from "pack/outside.h":
    void cf_pack_keep(object keeper)


def pack_init() -> None:
    """Make the packed types ready; imports datetime. Once, before anything is packed."""
    cf_pack_init()


def pack(obj, bint readonly=True) -> tuple:
    """A packed copy of OBJ, what it refers to and must never die, the numbers of the operation."""
    cdef cf_pack_outcome outcome
    cdef PyObject *kept = NULL
    copy = cf_pack(obj, readonly, &outcome, &kept)
    keeper = <object>kept
    Py_DECREF(keeper)
    return copy, keeper, {
        "objects": outcome.objects,
        "header_bytes": outcome.header_bytes,
        "table_bytes": outcome.table_bytes,
        "source_bytes": outcome.source_bytes,
        "references": outcome.references,
        "kept_strings": outcome.kept,
        "outside_objects": outcome.outside,
        "referred_objects": outcome.referred,
        "seconds": outcome.seconds,
    }


def keep_for_good(list keeper) -> None:
    """Make the elements of KEEPER immortal, without memory and without what they refer to."""
    cf_pack_keep(keeper)


def is_packed(obj) -> bool:
    """Does packed memory hold OBJ?"""
    return cf_packed_contains(<size_t><PyObject *>obj)


def packed_bytes() -> int:
    """Bytes of address space of all packed memory."""
    return cf_packed_bytes()


def repair_packed() -> int:
    """Restore the headers of packed lists and dicts that C code has changed in shared memory.

    Returns how many were. Always 0 where headers are not shared (3.12 and later).
    """
    return cf_pack_repair()
